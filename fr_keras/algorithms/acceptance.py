"""Checks the model passed to an algorithm and makes the copy to train."""

import numbers

import keras

from fr_keras.cutting import copying, sameness
from fr_keras.engine import casts
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
                "`model` must be a Keras model or a non-empty list of Keras "
                "models or layers, one for each module. Received: "
                f"model=[..., {module!r}, ...]"
            )
    if not modules:
        raise ValueError(
            "`model` must be a Keras model or a non-empty list of Keras "
            "models or layers, one for each module. "
            f"Received: model={modules!r}"
        )
    if num_modules not in (None, len(modules)):
        raise ValueError(
            f"`model` is a list of {len(modules)} modules, so `num_modules` "
            f"must be {len(modules)} or None. Received: {num_modules=}"
        )
    return list(modules)


# Methods with which a subclass of a Functional model changes training or
# inference. Modules would not call them.
_STEPS = (
    "call", "train_step", "test_step", "predict_step", "compute_loss",
    "compute_metrics",
)


def check_overrides(model):
    """Rejects a model whose class changes training or inference.

    Args:
        model: the model to split.

    Raises:
        ValueError: if its class overrides methods that modules would not call.
    """
    if not isinstance(model, keras.Model):
        return
    found = overrides(model, _STEPS)
    if not found:
        return
    raise ValueError(
        f"{type(model).__name__} must train, evaluate and predict like a plain "
        f"keras.Model, but overrides {', '.join(map(repr, found))}, which "
        "modules would not call. To train its layers with the loss and metrics "
        "of `compile`, pass keras.Model(model.inputs, model.outputs); any "
        "other loss belongs in a layer's `add_loss`. "
        f"Received: model={model!r}"
    )


def check_network(model):
    """Checks that a model computes the same as its layers, one by one.

    Args:
        model: `keras.Model`.

    Returns:
        `model`.

    Raises:
        ValueError: if its output differs from that of its layers.
    """
    differs = sameness.first_difference(model, model)
    if differs is not None:
        raise ValueError(
            f"Model '{model.name}' must compute the same as its layers, called "
            "one by one, but its output differs. Split it yourself and pass a "
            f"list of modules as `model`. Received: model={model!r}"
        )
    return model


def copy_network(model):
    """Copies a model; warns if layers or its class cannot be copied.

    Args:
        model: `keras.Model` or layer.

    Returns:
        `keras.Model` or layer.
    """
    copy, kept, lost = copying.copy_model(model)
    if lost is not None:
        warn(
            f"{type(model).__name__} cannot be re-created from its "
            f"configuration ({lost}), so `to_keras` will return a plain "
            "keras.Model without the methods of this class. Pass `copy=False` "
            "to train the model itself."
        )
    if kept:
        warn(
            "These layers cannot be copied, so both models share them: "
            "training and moving them affects both. (`copy=False` shares all "
            "layers.) " + "; ".join(
                f"'{layer.name}': {reason}" for layer, reason in kept.items()
            )
        )
    return copy


def check_replicas(replicas, pipeline_class):
    """Checks the number of pipelines.

    Args:
        replicas: int, r.
        pipeline_class: the class of the pipelines.

    Raises:
        ValueError: if it is not a positive integer, or above 1 for a method
            that does not support replicas.
    """
    if (
        isinstance(replicas, bool) or not isinstance(replicas, numbers.Integral)
        or replicas < 1
    ):
        raise ValueError(
            "`replicas` must be an integer, at least 1. "
            f"Received: replicas={replicas!r}"
        )
    if replicas > 1 and not vars(pipeline_class).get("replicates"):
        raise ValueError(
            f"{pipeline_class.__name__} does not declare that it can be used "
            "with replicas, by `replicates = True` (see "
            f"docs/new_algorithm.md). Received: replicas={replicas}"
        )


def check_link_dtype(dtype):
    """Checks the dtype in which features and error gradients are sent.

    Args:
        dtype: as for `fr_keras.algorithms.base.Algorithm`.

    Raises:
        ValueError: if it is neither `None` nor supported.
    """
    if dtype is not None and dtype not in casts.DTYPES:
        raise ValueError(
            f"`link_dtype` must be None or {' or '.join(casts.DTYPES)}. "
            f"Received: link_dtype={dtype!r}"
        )
