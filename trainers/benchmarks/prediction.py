"""Weight prediction: the cost of looking ahead."""

import keras

from trainers.benchmarks import compute, processes, turns
from trainers.benchmarks.job import start

OPTIMIZERS = {
    "SGD": lambda: keras.optimizers.SGD(0.01, momentum=0.9, nesterov=True),
    "Adam": lambda: keras.optimizers.Adam(0.001),
    # Its last step is stored, which takes one copy of the weights.
    "Muon": lambda: keras.optimizers.Muon(0.001),
}


def measure(job, num_modules, rounds, show):
    """Measures Features Replay with weight prediction, and the paper's.

    Args:
        job: `benchmarks.job.Job`.
        num_modules: int, K.
        rounds: int.
        show: as for `turns.take`.

    Returns:
        Dict from names of `OPTIMIZERS` to a dict from `False` and `True`,
        whether weights are predicted, to `Samples`, seconds per iteration.
    """
    found = {}
    for optimizer in OPTIMIZERS:
        started = {}
        try:
            for predicts in (False, True):
                show(f"preparing {optimizer}, prediction {predicts}")
                started[predicts] = processes.Process(
                    None, prepare, job, num_modules, optimizer, predicts
                )
            found[optimizer] = turns.take(started, rounds, show)
        finally:
            for process in started.values():
                process.close()
    return found


def prepare(job, num_modules, optimizer, predicts):
    """Runs in its own process.

    Args:
        job: `benchmarks.job.Job`.
        num_modules: int, K.
        optimizer: str, one of `OPTIMIZERS`.
        predicts: bool, whether weights are predicted.

    Returns:
        Callable without arguments that returns seconds per iteration.
    """
    start(num_devices=num_modules, threads=1, parallel=num_modules)
    model = job.algorithm(
        "features_replay", num_modules, weight_prediction=predicts
    )
    job.compile(
        model, OPTIMIZERS[optimizer](),
        steps_per_execution=job.steps_per_execution,
    )
    run = compute.runs(model, job)
    return lambda: run()[1]  # Of the plain loop.
