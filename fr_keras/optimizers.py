"""The optimizers of K modules behind the face of one."""

import keras
import tensorflow as tf
from keras.src.utils import tracking


class ModuleOptimizers(keras.optimizers.Optimizer):
    """What `model.optimizer` is after `compile`: one optimizer per module.

    Every module is updated by its own copy of the optimizer that was given to
    `compile`, so that no module waits for another. The given optimizer itself
    updates nothing; it holds what the modules have in common, the learning
    rate and the number t of the iteration:

    - A learning-rate schedule is evaluated at t, the same for all modules,
      although a module's own count of updates lags behind by its warm-up.
    - Setting `learning_rate`, as callbacks do, reaches every module.
    - `clipnorm` and `global_clipnorm` act on each module by itself.

    Args:
        optimizer: `keras.optimizers.Optimizer` to be copied.
        modules: list of `fr_keras.module.Module`.

    Attributes:
        shared: the optimizer that was given.
        per_module: list of the modules' optimizers, made by `build`.
        optimizers: of a `keras.optimizers.MultiOptimizer` the optimizers that
            it is made of, for callbacks; other optimizers do not have it.

    Raises:
        ValueError: for a `keras.optimizers.MultiOptimizer` without an
            `OptimizerMap`, which has no optimizers yet that could be copied.
    """

    def __init__(self, optimizer, modules):
        super().__init__(learning_rate=0.0, name=optimizer.name)
        if not _leaves(optimizer):
            raise ValueError(
                "A MultiOptimizer must be made from a "
                "keras.optimizers.OptimizerMap, so that every module can have "
                f"a copy. Received: optimizer={optimizer!r} of a function"
            )
        self.shared = optimizer
        self.use_ema = any(leaf.use_ema for leaf in _leaves(optimizer))
        self.per_module = []
        self._modules = modules
        self._show_to_tensorflow("shared", optimizer)

    def build(self, variables):
        """Makes the modules' optimizers, each on its module's device.

        Args:
            variables: ignored; every optimizer is built for the trainable
                variables of its module.
        """
        del variables
        if self.built:
            return
        for module in self._modules:
            with tf.device(module.device):
                optimizer = copy_optimizer(self.shared)
                optimizer.build(module.trainable_variables)
            module.optimizer = optimizer
            self.per_module.append(optimizer)
        if self.use_ema:
            self._collect_averages()
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

    @tracking.no_automatic_dependency_tracking
    def _collect_averages(self):
        """Shows averages of weights where `SwapEMAWeights` looks for them."""
        leaves = [
            leaf for optimizer in self.per_module
            for leaf in _leaves(optimizer) if leaf.built and leaf.use_ema
        ]
        self._trainable_variables = [
            variable for leaf in leaves
            for variable in leaf._trainable_variables
        ]
        self._model_variables_moving_average = [
            average for leaf in leaves
            for average in leaf._model_variables_moving_average
        ]
        # Not zero until the first update: it may never come.
        for variable, average in zip(
            self._trainable_variables, self._model_variables_moving_average
        ):
            average.assign(variable)

    @property
    def optimizers(self):
        return self.shared.optimizers

    @property
    def learning_rate(self):
        return self.shared.learning_rate

    @learning_rate.setter
    def learning_rate(self, learning_rate):
        self.shared.learning_rate = learning_rate

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

    def save_own_variables(self, store):
        del store  # Keras saves the optimizers that are attributes of this.

    def load_own_variables(self, store):
        del store

    def next_learning_rate(self):
        """Returns γ_t and moves on to iteration t + 1.

        Returns:
            List of scalar tensors, for `set_learning_rate`.
        """
        learning_rate = [
            tf.convert_to_tensor(leaf.learning_rate)
            for leaf in _leaves(self.shared)
        ]
        counters = {id(c): c for c in (
            leaf._iterations for leaf in [self.shared, *_leaves(self.shared)]
        )}
        for counter in counters.values():
            counter.assign_add(1)
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


def _leaves(optimizer):
    """The optimizers that update variables: one, or those inside of one."""
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        return _leaves(optimizer.inner_optimizer)
    if isinstance(optimizer, keras.optimizers.MultiOptimizer):
        return optimizer.optimizers
    return [optimizer]


def copy_optimizer(optimizer):
    """A fresh optimizer like the given one.

    Args:
        optimizer: `keras.optimizers.Optimizer`.

    Returns:
        The same with a learning rate, at first 0, for `set_learning_rate`.
    """
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        return keras.optimizers.LossScaleOptimizer(
            copy_optimizer(optimizer.inner_optimizer),
            optimizer.initial_scale,
            optimizer.dynamic_growth_steps,
            name=optimizer.name,
        )
    if isinstance(optimizer, keras.optimizers.MultiOptimizer):
        copies = {id(o): copy_optimizer(o) for o in optimizer.optimizers}
        given = optimizer._optimizer_map
        return keras.optimizers.MultiOptimizer(
            keras.optimizers.OptimizerMap(
                copies[id(given.default_optimizer)],
                {
                    pattern: copies[id(of_pattern)]
                    for pattern, of_pattern in given.items()
                },
            ),
            optimizer.loss_scale_factor,
            optimizer.name,
        )
    config = optimizer.get_config()
    config["learning_rate"] = 0.0
    copy = optimizer.__class__.from_config(config)
    # Not part of the configuration, but of what the user asked for.
    for name in (
        "_exclude_from_weight_decay", "_exclude_from_weight_decay_pattern"
    ):
        if hasattr(optimizer, name):
            setattr(copy, name, getattr(optimizer, name))
    return copy
