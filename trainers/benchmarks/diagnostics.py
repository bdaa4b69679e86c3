"""Diagnostics: their cost during training."""

from fr_keras import diagnostics
from trainers.benchmarks import processes, turns
from trainers.benchmarks.epochs import Epochs
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
    """Runs in its own process.

    Args:
        job: `benchmarks.job.Job`.
        num_modules: int, K.
        on: bool, whether to run diagnostics.

    Returns:
        Callable without arguments that runs the next epoch of one long `fit`,
        already traced, and returns its seconds per iteration.
    """
    start(num_devices=num_modules, threads=1, parallel=num_modules)
    model = job.algorithm("features_replay", num_modules)
    job.compile(model, steps_per_execution=job.steps_per_execution)
    observers = [
        diagnostics.SufficientDirection(EVERY),
        diagnostics.DeltaResidual(EVERY),
        diagnostics.FeatureDrift(EVERY),
        diagnostics.DownhillSteps(EVERY),
        diagnostics.GradientNorm(),
        diagnostics.UpdateRatio(),
        diagnostics.ReplayQueues(),
    ]
    epochs = Epochs(model, job, observers if on else [])
    # Each late module is probed, and traced, in turn.
    for _ in range(-(-num_modules * EVERY // job.num_steps)):
        epochs.run()
    return lambda: epochs.run() / job.num_steps
