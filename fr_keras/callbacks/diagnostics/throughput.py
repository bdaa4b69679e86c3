"""Examples per second."""

import time
import weakref

import keras


class Throughput(keras.callbacks.Callback):
    """Logs training examples per second, excluding tracing and validation.

    The logs `examples_per_second`, `seconds_per_step`, the time of an
    iteration, and `iterations`, their number so far, are added at the end of
    every epoch; put the callback before those that write logs. Calls for which
    a graph was traced do not count, unless the epoch has no others.

    Args:
        examples_per_epoch: int.
    """

    def __init__(self, examples_per_epoch: int) -> None:
        super().__init__()
        self.examples_per_epoch = examples_per_epoch
        self._start = 0.0
        self._step = 0
        self._graphs: weakref.WeakSet = weakref.WeakSet()  # Traced so far.
        self._clear()

    def _clear(self):
        # Of the epoch so far: an epoch may resume in another process. The
        # second number is that of calls with tracing.
        self._seconds = [0.0, 0.0]
        self._steps = [0, 0]

    def on_epoch_begin(self, epoch, logs=None):
        self._step = self.model.optimizer.global_step
        self._start = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        now, step = time.perf_counter(), self.model.optimizer.global_step
        graph = self.model.training.graph
        was_traced = graph is not None and graph not in self._graphs
        if was_traced:
            self._graphs.add(graph)
        self._seconds[was_traced] += now - self._start
        self._steps[was_traced] += step - self._step
        self._start, self._step = now, step

    def on_epoch_end(self, epoch, logs=None):
        if logs is not None:
            counted = 0 if self._steps[0] else 1
            per_step = max(self._seconds[counted], 1e-9) / max(
                1, self._steps[counted]
            )
            logs["examples_per_second"] = self.examples_per_epoch / (
                per_step * max(1, sum(self._steps))
            )
            logs["iterations"] = self.model.optimizer.global_step
            logs["seconds_per_step"] = per_step
        self._clear()
