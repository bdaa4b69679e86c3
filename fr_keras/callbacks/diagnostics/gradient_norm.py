"""The norm of each module's gradient."""

import tensorflow as tf

from fr_keras.callbacks.diagnostics.update_diagnostic import UpdateDiagnostic


class GradientNorm(UpdateDiagnostic):
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

    name = "gradient_norm"

    def value(self, module, gradients, before):
        present = [gradient for gradient in gradients if gradient is not None]
        return tf.linalg.global_norm(present)
