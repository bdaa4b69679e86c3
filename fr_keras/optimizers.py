"""The optimizers of K modules behind the face of one."""

import keras
import tensorflow as tf


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
    """

    def __init__(self, optimizer, modules):
        super().__init__(learning_rate=0.0, name=optimizer.name)
        self.shared = optimizer
        self.per_module = []
        self._modules = modules

    def build(self, variables):
        """Makes the modules' optimizers, each on its module's device.

        Args:
            variables: ignored; every optimizer is built for the trainable
                variables of its module.
        """
        del variables
        for module in self._modules:
            with tf.device(module.device):
                optimizer = _copy_optimizer(self.shared)
                optimizer.build(module.trainable_variables)
            module.optimizer = optimizer
            self.per_module.append(optimizer)
        self.built = True

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
    def variables(self):
        return [
            *self.shared.variables,
            *(v for optimizer in self.per_module for v in optimizer.variables),
        ]

    def next_learning_rate(self):
        """Returns γ_t and moves on to iteration t + 1.

        Returns:
            Scalar tensor.
        """
        learning_rate = tf.convert_to_tensor(self.shared.learning_rate)
        self.shared._iterations.assign_add(1)
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


def _copy_optimizer(optimizer):
    """A fresh optimizer like the given one, with a settable learning rate."""
    config = optimizer.get_config()
    config["learning_rate"] = 0.0
    copy = optimizer.__class__.from_config(config)
    # Not part of the configuration, but of what the user asked for.
    pattern = getattr(optimizer, "_exclude_from_weight_decay_pattern", None)
    if pattern is not None:
        copy.exclude_from_weight_decay(var_names=[pattern.pattern])
    return copy
