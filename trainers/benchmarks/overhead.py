"""Overhead: what an iteration of a network that computes nothing takes."""

import dataclasses

import keras
import numpy as np
import tensorflow as tf

from trainers.benchmarks import compute, processes, turns
from trainers.benchmarks.job import Job, start
from trainers.command import cores

_WIDTH = 16
_BATCH_SIZE = 8


class TinyJob(Job):
    """A dense network 16 units wide, on batches of 8 examples."""

    def network(self):
        keras.utils.set_random_seed(0)
        return keras.Sequential([
            keras.Input((_WIDTH,)),
            *(
                keras.layers.Dense(_WIDTH, activation="relu")
                for _ in range(self.depth)
            ),
        ])

    def batch(self):
        rng = np.random.default_rng(0)
        return (
            tf.constant(rng.normal(size=(_BATCH_SIZE, _WIDTH)), "float32"),
            tf.constant(rng.integers(0, _WIDTH, _BATCH_SIZE)),
        )


def measure(job, algorithms, numbers_of_modules, rounds, show):
    """Measures iterations of the training loop, beside those of stock Keras.

    Args:
        job: `benchmarks.job.Job`, whose network is not used.
        algorithms: list of names of `fr_keras.ALGORITHMS`.
        numbers_of_modules: list of numbers K.
        rounds: int.
        show: as for `turns.take`.

    Returns:
        Dict from names, that of stock Keras first, to `Samples`, seconds per
        iteration of `fit`.
    """
    tiny = TinyJob(**{
        **dataclasses.asdict(job), "depth": max(*numbers_of_modules, 4),
        "batch_size": _BATCH_SIZE,
    })
    contestants = {"stock Keras": (prepare_stock, tiny)}
    for algorithm in algorithms:
        for k in numbers_of_modules:
            contestants[f"{algorithm}, K={k}"] = (prepare, tiny, algorithm, k)
    started = {}
    try:
        for name, of_process in contestants.items():
            show(f"preparing {name}")
            started[name] = processes.Process(None, *of_process)
        return turns.take(started, rounds, show)
    finally:
        for process in started.values():
            process.close()


def prepare(job, algorithm, num_modules):
    """Runs in its own process: one of our algorithms.

    Args:
        job: `TinyJob`.
        algorithm: str.
        num_modules: int, K.

    Returns:
        Callable without arguments that returns seconds per iteration.
    """
    start(num_modules, threads=1, parallel=len(cores.available()))
    return _loop(job, job.algorithm(algorithm, num_modules))


def prepare_stock(job):
    """Runs in its own process: stock Keras.

    Args:
        job: `TinyJob`.

    Returns:
        As `prepare`.
    """
    start(num_devices=1, threads=1, parallel=len(cores.available()))
    return _loop(job, job.network())


def _loop(job, model):
    job.compile(
        model, jit_compile=False, steps_per_execution=job.steps_per_execution
    )
    run = compute.runs(model, job)
    return lambda: run()[0]  # By `fit`.
