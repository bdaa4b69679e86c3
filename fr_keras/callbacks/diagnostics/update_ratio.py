"""The ratio of updates to weights."""

import tensorflow as tf

from fr_keras.callbacks.diagnostics.update_diagnostic import UpdateDiagnostic


class UpdateRatio(UpdateDiagnostic):
    """Logs ‖w_k^{t+1} - w_k^t‖ / ‖w_k^t‖ of modules, averaged over an epoch.

    Around 1e-3 is usual; far above, training is close to diverging; far below,
    it makes hardly any progress.

    The logs `update_ratio/module_1` to `update_ratio/module_K` are added at
    the end of every epoch, over the updates that the module made in it.
    """

    name = "update_ratio"

    def before(self, module):
        return [tf.identity(v.value) for v in module.trainable_variables]

    def value(self, module, gradients, before):
        change = [
            variable.value - was
            for variable, was in zip(module.trainable_variables, before)
        ]
        return tf.math.divide_no_nan(
            tf.linalg.global_norm(change), tf.linalg.global_norm(before)
        )
