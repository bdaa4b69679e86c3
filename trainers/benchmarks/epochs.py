"""Epochs of one long `fit`, run on demand."""

import threading
import time

import keras

from trainers.benchmarks import batches


class Epochs:
    """Runs the epochs of one long `fit` on demand.

    `fit` runs in a thread, so that everything is traced only once.

    Args:
        model: algorithm, compiled.
        job: `benchmarks.job.Job`.
        callbacks: list of `keras.callbacks.Callback`.
    """

    def __init__(self, model, job, callbacks):
        self._gate = _Gate()
        self._error = None

        def fit():
            try:
                model.fit(
                    batches.repeated(job.batch()), epochs=10**6, verbose=0,
                    steps_per_epoch=job.num_steps, shuffle=False,
                    callbacks=[*callbacks, self._gate],
                )
            except BaseException as error:
                self._error = error
                self._gate.done.release()

        threading.Thread(target=fit, daemon=True).start()

    def run(self):
        """Runs an epoch; returns the seconds that its iterations took."""
        self._gate.go.release()
        self._gate.done.acquire()
        if self._error is not None:
            raise self._error
        return self._gate.end - self._gate.begin


class _Gate(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.go, self.done = threading.Semaphore(0), threading.Semaphore(0)
        self.begin = self.end = 0.0

    def on_epoch_begin(self, epoch, logs=None):
        self.go.acquire()
        self.begin = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        self.end = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        self.done.release()
