"""Checks the model passed to an algorithm and makes the copy to train."""

import keras

from fr_keras.cutting import copying, sameness
from fr_keras.engine.nested import overrides
from fr_keras.engine.user_warnings import warn


def check_modules(modules, num_modules):
    """Checks ready-made modules and returns them as a list.

    Args:
        modules: list or tuple, which should contain Keras layers.
        num_modules: int, the expected number of modules, or `None`.

    Raises:
        ValueError: if it is empty, contains anything but Keras layers, or has
            another length.
    """
    for module in modules:
        if not isinstance(module, keras.layers.Layer):
            raise ValueError(
                "`model` must be a Keras model, or a non-empty list of Keras "
                "models or layers, the modules. Received: a list with "
                f"{module!r}"
            )
    if not modules:
        raise ValueError(
            "`model` must be a Keras model, or a non-empty list of Keras "
            f"models or layers, the modules. Received: model={modules!r}"
        )
    if num_modules not in (None, len(modules)):
        raise ValueError(
            f"`model` is a list of {len(modules)} modules, so `num_modules` "
            f"must be {len(modules)} or None. Received: {num_modules=}"
        )
    return list(modules)


# Methods by which a subclass of a Functional model may change training, and
# which modules would not call.
_STEPS = (
    "call", "train_step", "test_step", "predict_step", "compute_loss",
    "compute_metrics",
)


def check_overrides(model):
    """Rejects a model whose class changes how it trains.

    Args:
        model: the model to split.

    Raises:
        ValueError: if it is a graph that overrides such methods.
    """
    if not isinstance(model, keras.Model):
        return
    found = overrides(model, _STEPS)
    if not found:
        return
    raise ValueError(
        f"{type(model).__name__} must train, evaluate and predict as a plain "
        f"keras.Model does, but it overrides {', '.join(map(repr, found))}, "
        "which modules would not call. Use keras.Model(model.inputs, "
        "model.outputs) to train its layers by the loss and metrics given to "
        "`compile`, with a loss that depends on more in a layer's `add_loss`. "
        f"Received: model={model!r}"
    )


def checked(model):
    """Checks that a model computes what its layers do, including nested ones.

    Args:
        model: `keras.Model`.

    Returns:
        `model`.

    Raises:
        ValueError: if it does not compute what its layers do.
    """
    differs = sameness.first_difference(model, model)
    if differs is not None:
        raise ValueError(
            f"Model '{model.name}' must compute what its layers do, one after "
            "the other, but it does not; pass the modules yourself, as a list "
            f"in place of `model`. Received: model={model!r}"
        )
    return model


def copied(model):
    """Copies a model; warns of layers not copied and of a lost class.

    Args:
        model: `keras.Model` or layer.

    Returns:
        `keras.Model` or layer.
    """
    copy, kept, lost = copying.copy_model(model)
    if lost is not None:
        warn(
            f"A {type(model).__name__} cannot be made again from its "
            f"configuration ({lost}), so `to_keras` will give a plain "
            "keras.Model without the methods of the class. `copy=False` "
            "trains the model itself."
        )
    if kept:
        warn(
            "These layers cannot be copied, so the layers themselves are part "
            "of both models, which train and move them together "
            "(`copy=False` does so with all layers): " + "; ".join(
                f"'{layer.name}': {reason}" for layer, reason in kept.items()
            )
        )
    return copy
