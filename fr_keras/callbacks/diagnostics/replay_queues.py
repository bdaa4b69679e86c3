"""Delays, and the size of the replay queues that they require."""

from fr_keras.callbacks.diagnostics.diagnostic import Diagnostic, per_module
from fr_keras.profiling.measurement import num_bytes


class ReplayQueues(Diagnostic):
    """Logs the delay of each module and the size of its queue.

    The logs, added at the end of every epoch, are `delay/module_1` to
    `delay/module_K`, in iterations: K - k for late methods; and
    `queue_bytes/module_1` to `queue_bytes/module_K`, the bytes kept on the
    module's device between iterations: stored inputs and the error gradient.

    Args:
        writer: as for other diagnostics; nothing is written to it.
    """

    def on_epoch_end(self, epoch, logs=None):
        held = [0] * self.model.num_modules
        for k, queues in enumerate(self.model.pipeline.queues):
            held[k] = sum(
                num_bytes(variable.read_value())
                for queue in queues for variable in queue.variables
            )
        self.log(
            {
                **per_module("delay", dict(enumerate(self.model.delays or []))),
                **per_module("queue_bytes", dict(enumerate(held))),
            },
            None,
        )
        super().on_epoch_end(epoch, logs)
