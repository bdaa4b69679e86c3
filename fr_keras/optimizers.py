"""The optimizers of K modules behind the interface of one."""

import functools
import weakref

import keras
import tensorflow as tf

# The modules' copies of every optimizer that was given to `compile`, and the
# hyperparameters it had when they were last alike: {optimizer: {module: …}}.
# An optimizer that is given again goes on with them, as in Keras.
_COPIES = weakref.WeakKeyDictionary()

# Translated for each module, from the variables that the user knows.
_EXCLUDED = "_exclude_from_weight_decay"


class ModuleOptimizers(keras.optimizers.Optimizer):
    """What `model.optimizer` is after `compile`: one optimizer per module.

    Every module is updated by its own copy of the optimizer that was given to
    `compile`, so that no module waits for another. The given optimizer itself
    updates nothing; it holds what the modules have in common, the learning
    rate, the number t of the iteration and all other hyperparameters:

    - A learning-rate schedule is evaluated at t, the same for all modules,
      although a module's own count of updates lags behind by its warm-up.
    - Setting `learning_rate`, as callbacks do, reaches every module.
    - All other hyperparameters are read from the given optimizer and set in
      it. As in Keras, a change takes effect when the training function is
      traced next: before the first `fit`, or with another `compile`.
    - `clipnorm` and `global_clipnorm` act on each module by itself.

    For `isinstance` and for Keras' serialization this is an optimizer of the
    given one's class.

    Args:
        optimizer: `keras.optimizers.Optimizer` to be copied. If it has
            trained these modules before, its copies are kept with their state.
        modules: list of `fr_keras.module.Module`.

    Attributes:
        shared: the optimizer that was given.
        per_module: list of the modules' optimizers, made by `build`.

    Raises:
        ValueError: for a `keras.optimizers.MultiOptimizer` without an
            `OptimizerMap`, which has no optimizers yet that could be copied,
            and for an optimizer that has trained another model.
    """

    def __init__(self, optimizer, modules):
        super().__init__(learning_rate=0.0, name=optimizer.name)
        if not _leaves(optimizer):
            raise ValueError(
                "A MultiOptimizer must be made from a "
                "keras.optimizers.OptimizerMap, so that every module can have "
                f"a copy. Received: optimizer={optimizer!r} of a function"
            )
        for each in _nested(optimizer):
            if each.built or (
                each in _COPIES and modules[0] not in _COPIES[each]
            ):
                raise ValueError(
                    "An optimizer must be fresh, or the one that has trained "
                    "this model before; this one has trained another. Make a "
                    "new one, with type(optimizer).from_config("
                    "optimizer.get_config()) for instance. "
                    f"Received: optimizer={each!r}"
                )
        # They are those of the given optimizer: see `__getattr__`.
        for name in _base_attributes() - {"built"}:
            if name[0] != "_":
                del vars(self)[name]
        self.per_module = []
        self._modules = modules
        self.shared = optimizer
        self._show_to_tensorflow("shared", optimizer)
        if any(each in _COPIES for each in _nested(optimizer)):
            self.build(None)  # It goes on with the state there is.

    @property
    def __class__(self):
        return type(vars(self).get("shared", self))

    def __getattr__(self, name):
        if name[0] != "_" and "shared" in vars(self):
            return getattr(self.shared, name)
        raise AttributeError(
            f"'{ModuleOptimizers.__name__}' object has no attribute '{name}'"
        )

    def __setattr__(self, name, value):
        if (
            name[0] == "_" or name in ("built", "per_module")
            or "shared" not in vars(self)
        ):
            super().__setattr__(name, value)
        elif name in _without_effect(self.shared):
            inner = (
                "optimizers[...]" if hasattr(self.shared, "optimizers")
                else "inner_optimizer"
            )
            raise AttributeError(
                f"{type(self.shared).__name__} does not use `{name}`: set "
                f"`model.optimizer.{inner}.{name}`. Received: {name}={value!r}"
            )
        elif hasattr(type(self.shared), name) or hasattr(self.shared, name):
            setattr(self.shared, name, value)
        else:
            raise AttributeError(
                f"{type(self.shared).__name__} has no hyperparameter "
                f"`{name}`. (What is not one can be kept in "
                f"`model.optimizer.shared`.) Received: {name}={value!r}"
            )

    def build(self, variables):
        """Makes the modules' optimizers, each on its module's device.

        Args:
            variables: ignored; every optimizer is built for the trainable
                variables of its module.
        """
        del variables
        if self.built:
            return
        optimizers, averages = [], []
        for k, module in enumerate(self._modules, start=1):
            with tf.device(module.device):
                optimizer = _copy_for(module, self.shared, f"_module_{k}")
                _update_copies(module, self.shared)
                if not optimizer.built:
                    optimizer.build(module.trainable_variables)
                    averages += _averages(optimizer)
            module.optimizer = optimizer
            optimizers.append(optimizer)
        self.per_module = optimizers
        # Not zero until the first update: it may never come.
        for variable, average in averages:
            average.assign(variable)
        self._show_averages()
        for k, optimizer in enumerate(self.per_module, start=1):
            self._show_to_tensorflow(f"module_{k}", optimizer)
        self.built = True

    def _show_to_tensorflow(self, name, optimizer):
        """Makes an optimizer a part of this one for `tf.train.Checkpoint`.

        That does not look into Keras' lists. If it has restored before what
        is shown only now, the values are assigned here.
        """
        self._track_trackable(optimizer, name, overwrite=True)
        for i, leaf in enumerate(_leaves(optimizer)):
            self._track_trackable(leaf, f"{name}_{i}", overwrite=True)

    def _show_averages(self):
        """Shows averages of weights where `SwapEMAWeights` looks for them."""
        of_leaves = zip(*map(_leaves, self.per_module))
        for given, copies in zip(_leaves(self.shared), of_leaves):
            averages = [pair for copy in copies for pair in _averages(copy)]
            if not averages:
                continue
            shown = {
                "_trainable_variables": [v for v, _ in averages],
                "_model_variables_moving_average": [a for _, a in averages],
            }
            # Not by assignment: they are saved with the copies.
            vars(given).update(shown)
            if given is self.shared:
                vars(self).update(shown)

    @property
    def learning_rate(self):
        return self.shared.learning_rate

    @property
    def iterations(self):
        return self.shared.iterations

    @property
    def global_step(self):
        """int, how many iterations there were, t.

        Unlike `iterations`, which Keras divides by
        `gradient_accumulation_steps`, this counts mini-batches.
        """
        return int(self.shared._iterations)

    @property
    def variables(self):
        return [
            *self.shared.variables,
            *(v for optimizer in self.per_module for v in optimizer.variables),
        ]

    def exclude_from_weight_decay(self, var_list=None, var_names=None):
        self.shared.exclude_from_weight_decay(var_list, var_names)

    def set_weights(self, weights):
        """Sets all of `variables`, after `build`."""
        if not self.built or len(weights) != len(self.variables):
            raise ValueError(
                "`weights` must have one array for each of the optimizer's "
                f"{len(self.variables)} variables, which `fit` makes. "
                f"Received: {len(weights)} weights"
            )
        for variable, weight in zip(self.variables, weights):
            variable.assign(weight)

    def save_own_variables(self, store):
        del store  # Keras saves the optimizers that are attributes of this.

    def load_own_variables(self, store):
        del store

    def next_learning_rate(self):
        """Returns γ_t and moves on to iteration t + 1.

        Returns:
            List of scalar tensors, for `set_learning_rate`.
        """
        for module in self._modules:
            _update_copies(module, self.shared)
        leaves = _leaves(self.shared)
        learning_rate = [
            tf.convert_to_tensor(leaf.learning_rate) for leaf in leaves
        ]
        for optimizer in _nested(self.shared):
            # (A loss scale counts nothing, nor does what has no variables.)
            if any(
                _COPIES[optimizer][module].optimizer.built
                for module in self._modules
            ) and not isinstance(
                optimizer, keras.optimizers.LossScaleOptimizer
            ):
                optimizer._iterations.assign_add(1)
        return learning_rate

    def finalize_variable_values(self, var_list):
        del var_list  # Each optimizer knows its own.
        for module in self._modules:
            module.optimizer.finalize_variable_values(
                module.trainable_variables
            )

    def apply(self, grads, trainable_variables=None):
        raise RuntimeError(
            "Modules are updated by their own optimizers, "
            "`model.optimizer.per_module`, not by `model.optimizer`."
        )

    def get_config(self):
        return self.shared.get_config()


def set_learning_rate(optimizer, learning_rate):
    """Sets γ_t for a module's optimizer.

    Args:
        optimizer: one of `ModuleOptimizers.per_module`.
        learning_rate: list of scalar tensors, of `next_learning_rate`.
    """
    for leaf, of_leaf in zip(_leaves(optimizer), learning_rate):
        leaf.learning_rate = of_leaf


def given_optimizer(optimizer):
    """The optimizer that was given to `compile`, if this is `model.optimizer`.

    Args:
        optimizer: what `keras.Model.compile` takes.

    Returns:
        `ModuleOptimizers.shared`, or else `optimizer`.
    """
    if isinstance(optimizer, ModuleOptimizers):
        return optimizer.shared
    return optimizer


def _inner(optimizer):
    """The optimizers directly inside of one."""
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        return [optimizer.inner_optimizer]
    if isinstance(optimizer, keras.optimizers.MultiOptimizer):
        return optimizer.optimizers
    return []


def _nested(optimizer):
    """An optimizer and all those inside of it."""
    return [optimizer, *(o for i in _inner(optimizer) for o in _nested(i))]


def _leaves(optimizer):
    """The optimizers that update variables: one, or those inside of one."""
    return [
        each for each in _nested(optimizer)
        if not isinstance(each, (
            keras.optimizers.LossScaleOptimizer,
            keras.optimizers.MultiOptimizer,
        ))
    ]


def _averages(optimizer):
    """Pairs of variables and their moving averages, in all leaves."""
    return [
        (variable, average)
        for leaf in _leaves(optimizer) if leaf.built and leaf.use_ema
        for variable, average in zip(
            leaf._trainable_variables, leaf._model_variables_moving_average
        )
    ]


class _Copy:
    """A module's copy of an optimizer.

    Attributes:
        optimizer: the copy.
        hyperparameters: what they were when the copy was last made like it.
        excluded: the same of what is excluded from weight decay.
    """

    def __init__(self, optimizer, hyperparameters):
        self.optimizer = optimizer
        self.hyperparameters = hyperparameters
        self.excluded = (set(), None)


def _copy_for(module, optimizer, suffix):
    """A module's copy of an optimizer, made when it is first asked for."""
    copies = _COPIES.setdefault(optimizer, weakref.WeakKeyDictionary())
    if module not in copies:
        copy = copy_optimizer(
            optimizer, suffix,
            lambda inner: _copy_for(module, inner, suffix),
        )
        copies[module] = _Copy(copy, _hyperparameters(optimizer))
    return copies[module].optimizer


def _update_copies(module, optimizer):
    """Brings what was set in an optimizer since to a module's copy."""
    for given in _nested(optimizer):
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
                        given._var_key(variable),
                        *getattr(variable, "original_keys", ()),
                    }
                ],
                pattern and [pattern.pattern],
            )


def _excluded(optimizer):
    """What is excluded from weight decay: a set of keys, and a pattern."""
    return (
        getattr(optimizer, _EXCLUDED, set()),
        getattr(optimizer, f"{_EXCLUDED}_pattern", None),
    )


def copy_optimizer(optimizer, suffix="", copy_inner=None):
    """A fresh optimizer like the given one.

    Args:
        optimizer: `keras.optimizers.Optimizer`, not built.
        suffix: str, appended to its name.
        copy_inner: callable that copies the optimizers inside of one, or
            `None` for this function.

    Returns:
        The same with a learning rate, at first 0, for `set_learning_rate`.

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
        given = optimizer._optimizer_map
        copies = {id(o): copy_inner(o) for o in optimizer.optimizers}
        copy = keras.optimizers.MultiOptimizer(
            keras.optimizers.OptimizerMap(
                copies[id(given.default_optimizer)],
                {
                    pattern: copies[id(of_pattern)]
                    for pattern, of_pattern in given.items()
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
                "Every module has a copy of the optimizer, so it must be one "
                "that Keras can rebuild from its configuration: give its "
                "class `get_config`, with all arguments of `__init__`. "
                f"Received: optimizer={optimizer!r} ({error})"
            ) from error
    # Not all that the user asked for need be part of the configuration.
    ours = _hyperparameters(copy)
    for name, value in _hyperparameters(optimizer).items():
        if name not in ours or not _equal(ours[name], value):
            setattr(copy, name, value)
    if any(_excluded(optimizer)):
        for name in (_EXCLUDED, f"{_EXCLUDED}_pattern"):
            setattr(copy, name, getattr(optimizer, name))
    return copy


def _hyperparameters(optimizer):
    """All attributes of an optimizer that are not its state.

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
def _base_attributes():
    """Names of the attributes that every optimizer has."""
    return set(vars(keras.optimizers.Optimizer(0.0)))


def _bookkeeping():
    """Names among these that are no hyperparameters."""
    private = {name for name in _base_attributes() if name[0] == "_"}
    return private | {"built", "name"}


def _without_effect(optimizer):
    """Hyperparameters of all optimizers that the outer one of two ignores."""
    if not _inner(optimizer):
        return set()
    used = {"built", "name"}
    if isinstance(optimizer, keras.optimizers.MultiOptimizer):
        used.add("loss_scale_factor")
    return {name for name in _base_attributes() if name[0] != "_"} - used


def _holds_state(value):
    """Whether an attribute has variables or other optimizers."""
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
    """Whether two attributes are known to be the same."""
    plain = (bool, int, float, str, list, tuple, dict, set)
    try:
        return a is b or (
            type(a) is type(b) and isinstance(a, plain) and bool(a == b)
        )
    except ValueError:  # Arrays in lists, for instance.
        return False
