"""Examples per second."""

import time

import keras


class Throughput(keras.callbacks.Callback):
    """Logs training examples per second, validation not counted.

    The logs `examples_per_second`, `seconds_per_step`, the time of an
    iteration, and `iterations`, how many there were so far, are added at the
    end of every epoch; put the callback before those that write logs. The
    first epoch contains the time that tracing takes.

    Args:
        examples_per_epoch: int.
    """

    def __init__(self, examples_per_epoch):
        super().__init__()
        self.examples_per_epoch = examples_per_epoch
        self._start = self._stop = 0.0
        self._first_step = 0

    def on_epoch_begin(self, epoch, logs=None):
        self._first_step = int(self.model.optimizer.iterations)
        self._start = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        self._stop = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        if logs is not None:
            seconds = self._stop - self._start
            logs["examples_per_second"] = self.examples_per_epoch / seconds
            logs["iterations"] = int(self.model.optimizer.iterations)
            steps = logs["iterations"] - self._first_step
            logs["seconds_per_step"] = seconds / max(1, steps)
