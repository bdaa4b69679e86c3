"""The norm of each module's gradient."""

import keras
import tensorflow as tf


class GradientNorm(keras.callbacks.Callback):
    """Logs the norm ‖g_k‖ of each module's gradient, averaged over an epoch.

    The logs `gradient_norm/module_1` to `gradient_norm/module_K` are added at
    the end of every epoch, over the updates that the module made in it; put
    the callback before those that write logs. Without the callback nothing is
    computed.

    Example:

    ```python
    model.fit(
        x, y,
        callbacks=[
            fr_keras.diagnostics.GradientNorm(),
            keras.callbacks.TensorBoard("logs"),
        ],
    )
    ```
    """

    def __init__(self):
        super().__init__()
        self._norms = {}

    def on_train_begin(self, logs=None):
        for module in self.model.modules_at_work:
            with tf.device(module.device):
                self._norms[module] = keras.metrics.Mean()
            module.observers.append(self._observe)
        self.model.make_train_function(force=True)

    def _observe(self, module, gradients):
        present = [gradient for gradient in gradients if gradient is not None]
        self._norms[module].update_state(tf.linalg.global_norm(present))

    def on_epoch_end(self, epoch, logs=None):
        for k, norm in enumerate(self._norms.values(), start=1):
            if logs is not None:
                logs[f"gradient_norm/module_{k}"] = float(norm.result())
            norm.reset_state()

    def on_train_end(self, logs=None):
        for module in self._norms:
            module.observers.remove(self._observe)
        self._norms = {}
        self.model.make_train_function(force=True)
