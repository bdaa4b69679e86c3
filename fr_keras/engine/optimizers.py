"""The optimizers of K modules behind the interface of one."""

import keras
import tensorflow as tf

from fr_keras.engine import placement, private
from fr_keras.engine.optimizer_copies import (
    base_attributes,
    copy_for,
    copy_of,
    has_trained_others,
    have_copies,
    ignored_hyperparameters,
    leaves,
    nested,
    update_copies,
)


class ModuleOptimizers(keras.optimizers.Optimizer):
    """`model.optimizer` after `compile`: one optimizer per module.

    Every module is updated by its own copy of the optimizer passed to
    `compile`, so that no module waits for another. The given optimizer itself
    updates nothing; it holds what all modules share: the learning rate, the
    iteration number t and all other hyperparameters:

    - A learning-rate schedule is evaluated at t, the same for all modules,
      although a module's own count of updates lags behind by its warm-up.
    - Setting `learning_rate`, as callbacks do, applies to every module.
    - All other hyperparameters are read and set on the given optimizer. As in
      Keras, a change takes effect when the training function is next traced:
      before the first `fit`, or after another `compile`.
    - `clipnorm` and `global_clipnorm` apply to each module separately.

    For `isinstance` and Keras serialization, this object has the class of the
    given optimizer.

    Args:
        optimizer: `keras.optimizers.Optimizer` to be copied. If it has
            trained these modules before, its copies are kept with their state.
        modules: for each pipeline a list of K `fr_keras.engine.module.Module`s.
        adjust: callable `(k, copy, optimizer)` that sets the hyperparameters
            of module k (from 0) that differ from the given optimizer's, or
            `None`.

    Attributes:
        shared: the given optimizer.
        per_module: list of K optimizers, created by `build`.

    Raises:
        ValueError: if it is a `keras.optimizers.MultiOptimizer` without an
            `OptimizerMap`, which has no optimizers to copy yet, or has trained
            another model.
    """

    def __init__(self, optimizer, modules, adjust=None):
        super().__init__(learning_rate=0.0, name=optimizer.name)
        _check(optimizer, modules[0][0])
        # Read from the given optimizer instead: see `__getattr__`.
        for name in base_attributes() - {"built"}:
            if name[0] != "_":
                del vars(self)[name]
        self.per_module = []
        self._modules = [pair for row in modules for pair in enumerate(row)]
        self._adjust = adjust
        self.shared = _with_numbers_on_host(optimizer)
        self._track_for_checkpoints("shared", optimizer)
        if have_copies(optimizer):
            self.build(None)  # Resumes with the existing state.

    @property  # type: ignore[misc]
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
        elif name in ignored_hyperparameters(self.shared):
            inner = (
                "optimizers[...]" if hasattr(self.shared, "optimizers")
                else "inner_optimizer"
            )
            raise AttributeError(
                f"{type(self.shared).__name__} does not use `{name}`. Set "
                f"`model.optimizer.{inner}.{name}` instead. "
                f"Received: {name}={value!r}"
            )
        elif hasattr(type(self.shared), name) or hasattr(self.shared, name):
            setattr(self.shared, name, value)
        else:
            raise AttributeError(
                f"{type(self.shared).__name__} has no hyperparameter "
                f"`{name}`. To add an attribute that is not a hyperparameter, "
                "set it on `model.optimizer.shared`. "
                f"Received: {name}={value!r}"
            )

    def build(self, variables):
        """Creates the modules' optimizers, each on its module's device.

        Args:
            variables: ignored; every optimizer is built for the trainable
                variables of its module.
        """
        del variables
        if self.built:
            return
        optimizers, averages = [], []
        for k, module in self._modules:
            with tf.device(module.device):
                optimizer = copy_for(module, self.shared, f"_module_{k + 1}")
                self._update_copy(k, module, optimizer)
                if not optimizer.built:
                    optimizer.build(module.trainable_variables)
                    averages += _averages(optimizer)
            module.optimizer = optimizer
            optimizers.append(optimizer)
        self.per_module = optimizers[:self._modules[-1][0] + 1]
        # Otherwise they would be zero until the first update.
        for variable, average in averages:
            average.assign(variable)
        self._expose_averages()
        for k, optimizer in enumerate(self.per_module, start=1):
            self._track_for_checkpoints(f"module_{k}", optimizer)
        self.built = True

    def _update_copy(self, k, module, optimizer):
        """Transfers settings of the given optimizer to a module's own."""
        update_copies(module, self.shared)
        if self._adjust is not None:
            self._adjust(k, optimizer, self.shared)

    def _track_for_checkpoints(self, name, optimizer):
        """Makes `tf.train.Checkpoint` track an optimizer as part of this one.

        Checkpoints do not look into Keras' lists. If a checkpoint was restored
        earlier, its values are assigned here.
        """
        private.track(self, optimizer, name)
        for i, leaf in enumerate(leaves(optimizer)):
            private.track(self, leaf, f"{name}_{i}")

    def _expose_averages(self):
        """Puts averages of weights where `SwapEMAWeights` looks for them."""
        leaf_copies = zip(*map(leaves, self.per_module))
        for given, copies in zip(leaves(self.shared), leaf_copies):
            averages = [pair for copy in copies for pair in _averages(copy)]
            if not averages:
                continue
            private.expose_averages(given, averages)
            if given is self.shared:
                private.expose_averages(self, averages)

    @property
    def learning_rate(self):
        return self.shared.learning_rate

    @property
    def iterations(self):
        return self.shared.iterations

    @property
    def global_step(self):
        """int, the number of iterations so far, t.

        Unlike `iterations`, which Keras divides by
        `gradient_accumulation_steps`, this counts mini-batches.
        """
        counting = self.shared
        while isinstance(counting, keras.optimizers.LossScaleOptimizer):
            counting = counting.inner_optimizer  # The outer one does not count.
        return int(private.own_iterations(counting))

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
                f"{len(self.variables)} variables, which `fit` creates. "
                f"Received: {len(weights)} weights"
            )
        for variable, weight in zip(self.variables, weights):
            variable.assign(weight)

    def save_own_variables(self, store):
        del store  # Keras saves the optimizers that are attributes of this.

    def load_own_variables(self, store):
        del store

    def next_learning_rate(self):
        """Returns γ_t and advances to iteration t + 1.

        Returns:
            List of scalar tensors, for `set_learning_rate`.
        """
        for k, module in self._modules if self.built else ():
            self._update_copy(k, module, module.optimizer)
        learning_rate = self.learning_rates()
        for optimizer in nested(self.shared):
            # (Loss scaling, and optimizers without variables, do not count.)
            scales = isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
            copies = (copy_of(optimizer, m) for _, m in self._modules)
            if any(copy.built for copy in copies) and not scales:
                private.own_iterations(optimizer).assign_add(1)
        return learning_rate

    def learning_rates(self):
        """Returns γ_t, for `set_learning_rate`, without advancing."""
        return [
            tf.convert_to_tensor(leaf.learning_rate)
            for leaf in leaves(self.shared)
        ]

    def coming_learning_rates(self, horizons):
        """Returns the mean learning rates of the next iterations.

        Call this before `next_learning_rate`.

        Args:
            horizons: iterable of int, numbers of iterations.

        Returns:
            List with one list of scalar tensors for each horizon n: the mean of
            γ_t … γ_{t+n−1}, or γ_t if n is 0, for each optimizer inside the
            given one.
        """
        return [
            [_mean_rate(leaf, horizon) for leaf in leaves(self.shared)]
            for horizon in horizons
        ]

    def finalize_variable_values(self, var_list):
        del var_list  # Each optimizer has its own variables.
        for _, module in self._modules:
            module.optimizer.finalize_variable_values(
                module.trainable_variables
            )

    def apply(self, grads, trainable_variables=None):
        raise RuntimeError(
            "`model.optimizer` cannot apply gradients: each module is updated "
            "by its own optimizer, in `model.optimizer.per_module`. "
            f"Received: grads of type {type(grads).__name__}"
        )

    def get_config(self):
        return self.shared.get_config()


def _with_numbers_on_host(optimizer):
    """Moves an optimizer's iteration numbers and learning rates to the host.

    TensorFlow creates them on the first GPU; each iteration would send them to
    the host and back.
    """
    numbers = [private.own_iterations(each) for each in nested(optimizer)]
    numbers += [private.schedule_of(leaf) for leaf in leaves(optimizer)]
    placement.move_variables(
        (number, placement.this_host()) for number in numbers
        if isinstance(number, keras.Variable)
    )
    return optimizer


def _check(optimizer, module):
    """Rejects optimizers that cannot be copied for a module."""
    if not leaves(optimizer):
        raise ValueError(
            "A MultiOptimizer must be created from a "
            "keras.optimizers.OptimizerMap, so that every module can have a "
            f"copy. Received: optimizer={optimizer!r}, created from a function"
        )
    for each in nested(optimizer):
        if has_trained_others(each, module):
            raise ValueError(
                "The optimizer must be new, or have trained this model before, "
                "but it has trained another model. Create a new one, for "
                "example by type(optimizer).from_config("
                f"optimizer.get_config()). Received: optimizer={each!r}"
            )


def set_learning_rate(optimizer, learning_rate):
    """Sets γ_t for a module's optimizer.

    Args:
        optimizer: one of `ModuleOptimizers.per_module`.
        learning_rate: list of scalar tensors, from `next_learning_rate`.
    """
    for leaf, rate in zip(leaves(optimizer), learning_rate):
        leaf.learning_rate = rate


def apply_gradients(optimizer, gradients, variables):
    """Updates variables, and does not keep the graph in memory for good.

    In a replica context, Keras reduces gradients over the replicas, of which
    there is one here. TensorFlow does so by a custom gradient, and registers
    each of those globally: the traced graph, and with it the weights, would
    stay in memory when the model is gone. `keras.optimizers.LossScaleOptimizer`
    and others with an `apply` of their own may insist on such a context.

    Args:
        optimizer: `keras.optimizers.Optimizer`.
        gradients: list of tensors.
        variables: list of `keras.Variable`.
    """
    if type(optimizer).apply is not keras.optimizers.Optimizer.apply:
        optimizer.apply(gradients, variables)
        return
    tf.distribute.get_replica_context().merge_call(
        lambda _: optimizer.apply(gradients, variables)
    )


def _mean_rate(optimizer, horizon):
    """Returns the mean learning rate of an optimizer's next iterations."""
    schedule = private.schedule_of(optimizer)
    if not isinstance(
        schedule, keras.optimizers.schedules.LearningRateSchedule
    ):
        return tf.convert_to_tensor(optimizer.learning_rate)
    now = tf.convert_to_tensor(private.own_iterations(optimizer))
    rates = [
        tf.convert_to_tensor(schedule(now + ahead))
        for ahead in range(max(horizon, 1))
    ]
    return tf.add_n(rates) / len(rates)


def given_optimizer(optimizer):
    """Unwraps `model.optimizer` to the optimizer passed to `compile`.

    Args:
        optimizer: any value that `keras.Model.compile` takes.

    Returns:
        `ModuleOptimizers.shared`, or else `optimizer`.
    """
    if isinstance(optimizer, ModuleOptimizers):
        return optimizer.shared
    return optimizer


def _averages(optimizer):
    """Returns pairs of variables and their moving averages, in all leaves."""
    return [
        pair
        for leaf in leaves(optimizer) if leaf.built and leaf.use_ema
        for pair in private.averages_of(leaf)
    ]
