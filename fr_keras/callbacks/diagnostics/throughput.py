"""Examples per second."""

import time

import keras


class Throughput(keras.callbacks.Callback):
    """Logs training examples per second, excluding validation.

    The logs `examples_per_second`, `seconds_per_step`, the time of an
    iteration, and `iterations`, their number so far, are added at the end of
    every epoch; put the callback before those that write logs. The first epoch
    includes the time for tracing.

    Args:
        examples_per_epoch: int.
    """

    def __init__(self, examples_per_epoch: int) -> None:
        super().__init__()
        self.examples_per_epoch = examples_per_epoch
        self._start = 0.0
        # Of the epoch so far: an epoch may resume in another process.
        self._seconds = 0.0
        self._steps = 0
        self._step = 0

    def on_epoch_begin(self, epoch, logs=None):
        self._step = self.model.optimizer.global_step
        self._start = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        now, step = time.perf_counter(), self.model.optimizer.global_step
        self._seconds += now - self._start
        self._steps += step - self._step
        self._start, self._step = now, step

    def on_epoch_end(self, epoch, logs=None):
        if logs is not None:
            seconds = max(self._seconds, 1e-9)
            logs["examples_per_second"] = self.examples_per_epoch / seconds
            logs["iterations"] = self.model.optimizer.global_step
            logs["seconds_per_step"] = seconds / max(1, self._steps)
        self._seconds, self._steps = 0.0, 0
