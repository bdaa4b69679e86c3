"""Examples per second."""

import time

import keras


class Throughput(keras.callbacks.Callback):
    """Logs training examples per second, validation not counted.

    The log `examples_per_second` is added at the end of every epoch; put the
    callback before those that write logs. The first epoch contains the time
    that tracing takes.

    Args:
        examples_per_epoch: int.
    """

    def __init__(self, examples_per_epoch):
        super().__init__()
        self.examples_per_epoch = examples_per_epoch
        self._start = self._stop = 0.0

    def on_epoch_begin(self, epoch, logs=None):
        self._start = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        self._stop = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        if logs is not None:
            seconds = self._stop - self._start
            logs["examples_per_second"] = self.examples_per_epoch / seconds
