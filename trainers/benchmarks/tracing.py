"""Tracing: the time until training starts."""

import functools
import time

from trainers.benchmarks import batches, compute, processes, turns
from trainers.benchmarks.job import start
from trainers.command import cores


def measure(job, algorithms, numbers_of_modules, rounds, show):
    """Measures the first three calls of the training function.

    Args:
        job: `benchmarks.job.Job`.
        algorithms: list of names of `fr_keras.ALGORITHMS`.
        numbers_of_modules: list of numbers K.
        rounds: int; every round starts new processes.
        show: as for `turns.take`.

    Returns:
        Dict from names, that of stock Keras first, to a list of three
        `Samples`, seconds of the first, the second and the third call.
    """

    def first_calls(*of_process):
        process = processes.Process(None, *of_process)
        try:
            return process()
        finally:
            process.close()

    contestants = {
        "stock Keras": functools.partial(first_calls, prepare_stock, job)
    }
    for algorithm in algorithms:
        for k in numbers_of_modules:
            contestants[f"{algorithm}, K={k}"] = functools.partial(
                first_calls, prepare, job, algorithm, k
            )
    return turns.take(contestants, rounds, show)


def prepare(job, algorithm, num_modules):
    """Runs in its own process.

    Args:
        job: `benchmarks.job.Job`.
        algorithm: str.
        num_modules: int, K.

    Returns:
        Callable without arguments that returns the seconds of the first three
        calls. The first is traced.
    """
    parallel = max(num_modules, len(cores.available()))
    start(num_devices=num_modules, threads=1, parallel=parallel)
    return _calls(job, job.algorithm(algorithm, num_modules))


def prepare_stock(job):
    """Runs in its own process: stock Keras, as it comes, on all cores.

    Args:
        job: `benchmarks.job.Job`.

    Returns:
        As `prepare`.
    """
    num_cores = len(cores.available())
    start(num_devices=1, threads=num_cores, parallel=num_cores)
    return _calls(job, compute.with_stock_layers(job.network()))


def _calls(job, model):
    job.compile(
        model, jit_compile=False, steps_per_execution=job.steps_per_execution
    )
    data = batches.repeated(job.batch())

    def run():
        model.make_train_function()
        iterator, seconds = iter(data), []
        for _ in range(3):
            begin = time.perf_counter()
            model.train_function(iterator)["loss"].numpy()
            seconds.append(time.perf_counter() - begin)
        return seconds

    return run
