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
        # Of the epoch so far: an epoch may resume in another process.
        self._seconds, self._steps = 0.0, 0
        self._traced_seconds, self._traced_steps = 0.0, 0

    def on_epoch_begin(self, epoch, logs=None):
        self._step = self.model.optimizer.global_step
        self._start = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        now, step = time.perf_counter(), self.model.optimizer.global_step
        graph = self.model.training.graph
        if graph is None or graph in self._graphs:
            self._seconds += now - self._start
            self._steps += step - self._step
        else:
            self._graphs.add(graph)
            self._traced_seconds += now - self._start
            self._traced_steps += step - self._step
        self._start, self._step = now, step

    def on_epoch_end(self, epoch, logs=None):
        if logs is not None:
            seconds, steps = self._seconds, self._steps
            if not steps:
                seconds, steps = self._traced_seconds, self._traced_steps
            per_step = max(seconds, 1e-9) / max(1, steps)
            logs["examples_per_second"] = self.examples_per_epoch / (
                per_step * max(1, self._steps + self._traced_steps)
            )
            logs["iterations"] = self.model.optimizer.global_step
            logs["seconds_per_step"] = per_step
        self._clear()
