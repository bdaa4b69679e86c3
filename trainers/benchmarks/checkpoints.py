"""Checkpoints: the cost of writing them continuously."""

import glob
import os
import tempfile

import keras

import fr_keras
from trainers.benchmarks import processes, turns
from trainers.benchmarks.epochs import Epochs
from trainers.benchmarks.job import start

# When they are written: never; one after the other, in the background; after
# each call, while training waits.
WAYS = ("none", "background", "waiting")


def measure(job, num_modules, folder, rounds, show):
    """Measures Features Replay with and without checkpoints.

    Args:
        job: `benchmarks.job.Job`.
        num_modules: int, K.
        folder: str, the directory to write them to.
        rounds: int.
        show: as for `turns.take`.

    Returns:
        Dict from `WAYS` to a list of `Samples`: seconds per iteration, and
        checkpoints per 100 iterations.
    """
    started = {}
    try:
        for way in WAYS:
            show(f"preparing K={num_modules}, checkpoints: {way}")
            started[way] = processes.Process(
                None, prepare, job, num_modules, way, folder
            )
        return turns.take(started, rounds, show)
    finally:
        for process in started.values():
            process.close()


def prepare(job, num_modules, way, folder):
    """Runs in its own process.

    Args:
        job: `benchmarks.job.Job`.
        num_modules: int, K.
        way: str, one of `WAYS`.
        folder: str.

    Returns:
        Callable without arguments that runs the next epoch and returns a list:
        seconds per iteration, and checkpoints per 100 iterations.
    """
    start(num_devices=num_modules, threads=1, parallel=num_modules)
    model = job.algorithm("features_replay", num_modules)
    job.compile(model, steps_per_execution=job.steps_per_execution)
    folder = tempfile.mkdtemp(prefix=f"checkpoints_{way}_", dir=folder)
    kept = fr_keras.Checkpoints(
        folder, monitor=None, every_epochs=None,
        every_minutes=1e-9 if way == "background" else None,
    )
    asking = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda *_, **__: kept.save()
    )
    epochs = Epochs(model, job, {
        "none": [], "background": [kept], "waiting": [asking, kept],
    }[way])
    epochs.run()

    def run():
        before = _newest(folder)
        seconds = epochs.run()
        return [
            seconds / job.num_steps,
            100 * (_newest(folder) - before) / job.num_steps,
        ]

    return run


def _newest(folder):
    """The number of the newest checkpoint, or 0."""
    return max((
        int(os.path.basename(path)[len("ckpt-"):-len(".index")])
        for path in glob.glob(os.path.join(glob.escape(folder), "*.index"))
    ), default=0)
