"""Base class of the callbacks that observe every update."""

import keras
import tensorflow as tf

from fr_keras.callbacks.diagnostics.diagnostic import Diagnostic, per_module


class UpdateDiagnostic(Diagnostic):
    """Logs a quantity of each module's updates, averaged over an epoch.

    The quantity is computed on the module's device, within each iteration. The
    average is over the updates that the module made in the epoch, and 0 if it
    made none.
    """

    # The name of the logged quantity.
    name: str | None = None

    def __init__(self):
        super().__init__()
        self._means = {}

    def on_train_begin(self, logs=None):
        self._means = {}
        for module in self.model.pipeline.modules:
            # Removes observers of a training that an error has ended.
            module.observers[:] = [
                observe for observe in module.observers
                if self._is_of_this_fit(observe)
            ]
            with tf.device(module.device):
                self._means[module] = keras.metrics.Mean()
            module.observers.append(self._observe)
        self.model.make_train_function(force=True)

    def get_state(self):
        """Returns the averages of this epoch so far, for checkpoints."""
        return {
            "latest": self._latest,
            "means": [
                [variable.numpy() for variable in mean.variables]
                for mean in self._means.values()
            ],
        }

    def set_state(self, state):
        """Restores the result of `get_state`."""
        self._latest = state["latest"]
        for mean, values in zip(self._means.values(), state["means"]):
            for variable, value in zip(mean.variables, values):
                variable.assign(value)

    def _is_of_this_fit(self, observe):
        owner = getattr(observe, "__self__", None)
        return (
            not isinstance(owner, UpdateDiagnostic)
            # The callbacks of one call of `fit` share their `params`.
            or (owner is not self and owner.params is self.params)
        )

    def _observe(self, module, gradients):
        before = self.before(module)

        def updated():
            self._means[module].update_state(
                self.value(module, gradients, before)
            )

        return updated

    def on_epoch_end(self, epoch, logs=None):
        self.log(
            per_module(self.name, {
                k: float(mean.result())
                for k, mean in enumerate(self._means.values())
            }),
            None,
        )
        for mean in self._means.values():
            mean.reset_state()
        super().on_epoch_end(epoch, logs)

    def on_train_end(self, logs=None):
        for module in self._means:
            module.observers.remove(self._observe)
        self._means = {}
        self.model.make_train_function(force=True)

    def before(self, module):
        """Returns what `value` needs from before the update (hook).

        Args:
            module: `fr_keras.engine.module.Module`.

        Returns:
            Nest of tensors, or `None`.
        """

    def value(self, module, gradients, before):
        """Computes the quantity, after the update (hook).

        Args:
            module: `fr_keras.engine.module.Module`.
            gradients: list of tensors or `None`, g_k.
            before: the result of `before`.

        Returns:
            Scalar tensor.
        """
        raise NotImplementedError
