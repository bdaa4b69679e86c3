"""Diagnostics: what it costs to look at a training."""

import threading
import time

import keras

from fr_keras import diagnostics
from trainers.benchmarks import batches, processes, turns
from trainers.benchmarks.job import start

EVERY = 50


def measure(job, numbers_of_modules, rounds, show):
    """Measures Features Replay with diagnostics every 50 steps, and without.

    Args:
        job: `benchmarks.job.Job`.
        numbers_of_modules: list of numbers K.
        rounds: int.
        show: as for `turns.take`.

    Returns:
        Dict from K to a dict from `"off"` and `"on"` to `Samples`, seconds per
        iteration.
    """
    found = {}
    for num_modules in numbers_of_modules:
        started = {}
        try:
            for name in ("off", "on"):
                show(f"preparing K={num_modules}, diagnostics {name}")
                started[name] = processes.Process(
                    None, prepare, job, num_modules, name == "on"
                )
            found[num_modules] = turns.take(started, rounds, show)
        finally:
            for process in started.values():
                process.close()
    return found


def prepare(job, num_modules, on):
    """Runs in a process of its own.

    Args:
        job: `benchmarks.job.Job`.
        num_modules: int, K.
        on: bool, whether there are diagnostics.

    Returns:
        Callable without arguments: seconds per iteration, of the next epoch of
        one long `fit`, in which all is traced.
    """
    start(num_devices=num_modules, threads=1, parallel=num_modules)
    model = job.algorithm("features_replay", num_modules)
    job.compile(model, steps_per_execution=job.steps_per_execution)
    epochs = _Epochs()
    observers = [
        diagnostics.SufficientDirection(EVERY),
        diagnostics.DeltaResidual(EVERY),
        diagnostics.FeatureDrift(EVERY),
        diagnostics.DownhillSteps(EVERY),
        diagnostics.GradientNorm(),
        diagnostics.UpdateRatio(),
        diagnostics.ReplayQueues(),
    ]
    threading.Thread(
        target=model.fit,
        args=(batches.repeated(job.batch()),),
        kwargs={
            "steps_per_epoch": job.num_steps, "epochs": 10**6, "verbose": 0,
            "shuffle": False, "callbacks": [*(observers if on else []), epochs],
        },
        daemon=True,
    ).start()
    # Each late module is probed, and traced, in turn.
    for _ in range(-(-num_modules * EVERY // job.num_steps)):
        epochs.run()
    return lambda: epochs.run() / job.num_steps


class _Epochs(keras.callbacks.Callback):
    """Lets `fit` run one epoch when asked."""

    def __init__(self):
        super().__init__()
        self._go, self._done = threading.Semaphore(0), threading.Semaphore(0)
        self._begin = self._end = 0.0

    def run(self):
        """Runs an epoch; returns how many seconds its iterations took."""
        self._go.release()
        self._done.acquire()
        return self._end - self._begin

    def on_epoch_begin(self, epoch, logs=None):
        self._go.acquire()
        self._begin = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        self._end = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        self._done.release()
