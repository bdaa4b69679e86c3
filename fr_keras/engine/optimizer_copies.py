"""Copies of an optimizer, one per module, kept in sync with the original."""

import functools
import weakref

import keras
import tensorflow as tf

from fr_keras.engine import private

# The modules' copies of every optimizer passed to `compile`, and its
# hyperparameters when they were last in sync: {optimizer: {module: …}}.
# An optimizer that is passed again resumes with its copies, as in Keras.
_COPIES: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()

# Translated for each module, since it refers to the user's own variables.
_EXCLUDED = "_exclude_from_weight_decay"


def _inner(optimizer):
    """Returns the optimizers directly inside another."""
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        return [optimizer.inner_optimizer]
    if isinstance(optimizer, keras.optimizers.MultiOptimizer):
        return optimizer.optimizers
    return []


def nested(optimizer):
    """Returns an optimizer and all optimizers nested in it."""
    return [optimizer, *(o for i in _inner(optimizer) for o in nested(i))]


def leaves(optimizer):
    """Returns the optimizers that update variables: it or those in it."""
    return [
        each for each in nested(optimizer)
        if not isinstance(each, (
            keras.optimizers.LossScaleOptimizer,
            keras.optimizers.MultiOptimizer,
        ))
    ]


def have_copies(optimizer):
    """Whether modules have copies of an optimizer, or of one inside it."""
    return any(each in _COPIES for each in nested(optimizer))


def has_trained_others(optimizer, module):
    """Whether an optimizer has trained modules of another model.

    Args:
        optimizer: `keras.optimizers.Optimizer`.
        module: `fr_keras.engine.module.Module`.

    Returns:
        bool: whether it has its own variables, or copies but none for `module`.
    """
    return optimizer.built or (
        optimizer in _COPIES and module not in _COPIES[optimizer]
    )


def copy_of(optimizer, module):
    """Returns a module's copy of an optimizer."""
    return _COPIES[optimizer][module].optimizer


class _Copy:
    """A module's copy of an optimizer.

    Attributes:
        optimizer: the copy.
        hyperparameters: those of the original when they were last in sync.
        excluded: the same for exclusions from weight decay.
    """

    def __init__(self, optimizer, hyperparameters):
        self.optimizer = optimizer
        self.hyperparameters = hyperparameters
        self.excluded = (set(), None)


def copy_for(module, optimizer, suffix):
    """Returns a module's copy of an optimizer, created on first request.

    Args:
        module: `fr_keras.engine.module.Module`.
        optimizer: `keras.optimizers.Optimizer`.
        suffix: str, appended to the optimizer's name.

    Returns:
        `keras.optimizers.Optimizer`.
    """
    copies = _COPIES.setdefault(optimizer, weakref.WeakKeyDictionary())
    if module not in copies:
        copy = copy_optimizer(
            optimizer, suffix,
            lambda inner: copy_for(module, inner, suffix),
        )
        copies[module] = _Copy(copy, _hyperparameters(optimizer))
    return copies[module].optimizer


def update_copies(module, optimizer):
    """Transfers changed settings of an optimizer to a module's copy.

    Args:
        module: `fr_keras.engine.module.Module` that has a copy.
        optimizer: `keras.optimizers.Optimizer`.
    """
    for given in nested(optimizer):
        copy = _COPIES[given][module]
        hyperparameters = _hyperparameters(given)
        for name, value in hyperparameters.items():
            known = copy.hyperparameters
            if name not in known or not _equal(known[name], value):
                setattr(copy.optimizer, name, value)
        copy.hyperparameters = hyperparameters
        excluded = _excluded(given)
        if excluded != copy.excluded:
            keys, pattern = copy.excluded = excluded
            copy.optimizer.exclude_from_weight_decay(
                [
                    variable for variable in module.trainable_variables
                    if keys & {
                        private.exclusion_key(given, variable),
                        *getattr(variable, "original_keys", ()),
                    }
                ],
                pattern and [pattern.pattern],
            )


def _excluded(optimizer):
    """Returns exclusions from weight decay: a set of keys, and a pattern."""
    return (
        getattr(optimizer, _EXCLUDED, set()),
        getattr(optimizer, f"{_EXCLUDED}_pattern", None),
    )


def copy_optimizer(optimizer, suffix="", copy_inner=None):
    """Creates a fresh optimizer like the given one.

    Args:
        optimizer: `keras.optimizers.Optimizer`, not built.
        suffix: str, appended to its name.
        copy_inner: callable that copies the optimizers inside another, or
            `None` for this function.

    Returns:
        The copy, with a learning rate that `set_learning_rate` sets, at first
        0.

    Raises:
        ValueError: if Keras cannot rebuild the optimizer from its
            configuration.
    """
    if copy_inner is None:
        copy_inner = functools.partial(copy_optimizer, suffix=suffix)
    name = optimizer.name + suffix
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        copy = keras.optimizers.LossScaleOptimizer(
            copy_inner(optimizer.inner_optimizer),
            optimizer.initial_scale,
            optimizer.dynamic_growth_steps,
            name=name,
        )
    elif isinstance(optimizer, keras.optimizers.MultiOptimizer):
        given = private.optimizer_map(optimizer)
        copies = {id(o): copy_inner(o) for o in optimizer.optimizers}
        copy = keras.optimizers.MultiOptimizer(
            keras.optimizers.OptimizerMap(
                copies[id(given.default_optimizer)],
                {
                    pattern: copies[id(inner)]
                    for pattern, inner in given.items()
                },
            ),
            optimizer.loss_scale_factor,
            name,
        )
    else:
        config = {**optimizer.get_config(), "learning_rate": 0.0, "name": name}
        try:
            copy = type(optimizer).from_config(config)
        except Exception as error:
            raise ValueError(
                "Every module gets a copy of the optimizer, so Keras must be "
                f"able to re-create it from its configuration ({error}). "
                "Implement `get_config` in its class, with all arguments of "
                f"`__init__`. Received: optimizer={optimizer!r}"
            ) from error
    # The configuration may lack some of the user's settings.
    ours = _hyperparameters(copy)
    for name, value in _hyperparameters(optimizer).items():
        if name not in ours or not _equal(ours[name], value):
            setattr(copy, name, value)
    if any(_excluded(optimizer)):
        for name in (_EXCLUDED, f"{_EXCLUDED}_pattern"):
            setattr(copy, name, getattr(optimizer, name))
    return copy


def _hyperparameters(optimizer):
    """Returns all attributes of an optimizer that are not its state.

    Args:
        optimizer: `keras.optimizers.Optimizer`, not built.

    Returns:
        dict from name to value.
    """
    bookkeeping = _bookkeeping()
    return {
        name: value for name, value in vars(optimizer).items()
        if name not in bookkeeping and not name.startswith(_EXCLUDED)
        and not _holds_state(value)
    }


@functools.cache
def base_attributes():
    """Returns the names of the attributes that every optimizer has."""
    return set(vars(keras.optimizers.Optimizer(0.0)))


def _bookkeeping():
    """Returns the names among them that are not hyperparameters."""
    private = {name for name in base_attributes() if name[0] == "_"}
    return private | {"built", "name"}


def ignored_hyperparameters(optimizer):
    """Returns common hyperparameters that a wrapping optimizer ignores."""
    if not _inner(optimizer):
        return set()
    used = {"built", "name"}
    if isinstance(optimizer, keras.optimizers.MultiOptimizer):
        used.add("loss_scale_factor")
    return {name for name in base_attributes() if name[0] != "_"} - used


def _holds_state(value):
    """Whether an attribute holds variables or other optimizers."""
    if isinstance(value, (list, tuple, set)):
        return any(map(_holds_state, value))
    if isinstance(value, (dict, keras.optimizers.OptimizerMap)):
        return any(map(_holds_state, value.values())) or isinstance(
            value, keras.optimizers.OptimizerMap
        )
    return isinstance(
        value, (keras.Variable, tf.Variable, keras.optimizers.Optimizer)
    )


def _equal(a, b):
    """Whether two attributes are known to be equal."""
    plain = (bool, int, float, str, list, tuple, dict, set)
    try:
        return a is b or (
            type(a) is type(b) and isinstance(a, plain) and bool(a == b)
        )
    except ValueError:  # Arrays in lists, for instance.
        return False
