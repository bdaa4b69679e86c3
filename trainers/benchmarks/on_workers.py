"""Workers on loopback against one process: throughput and traffic."""

import dataclasses
import functools

import fr_keras
from fr_keras.profiling.measurement import num_bytes
from trainers.benchmarks import compute, processes, traffic, turns
from trainers.command import cores
from trainers.workers import local_workers


@dataclasses.dataclass
class OnWorkers:
    """Measurements for K modules.

    Attributes:
        here: `Samples`, seconds per iteration in one process, K devices.
        there: `Samples`, on K workers.
        sent: dict from pairs of names, sender and receiver, to `Samples`,
            bytes per iteration.
        features: int, bytes of the features that cross boundaries in an
            iteration; error gradients have as many.
    """

    here: turns.Samples
    there: turns.Samples
    sent: dict
    features: int


def measure(job, numbers_of_modules, rounds, show):
    """Measures Features Replay on one-core workers, and in one process.

    Args:
        job: `benchmarks.job.Job`.
        numbers_of_modules: list of numbers K, at most the number of cores.
        rounds: int.
        show: as for `turns.take`.

    Returns:
        Dict from K to `OnWorkers`.
    """
    return {
        k: _measure(job, k, rounds, show) for k in numbers_of_modules
    }


def _measure(job, num_modules, rounds, show):
    each = {*cores.available()[:num_modules]}
    with local_workers.started(num_modules) as workers:
        show(f"preparing K={num_modules}")
        here = there = None
        try:
            here = processes.Process(
                each, compute.prepare, job, "features_replay", num_modules
            )
            there = processes.Process(
                each, prepare, job, [worker.address for worker in workers]
            )
            pids = {"program": there.pid} | {
                f"worker {i}": worker.process.pid
                for i, worker in enumerate(workers)
            }
            found = turns.take(
                {
                    "here": here,
                    "there": functools.partial(_counted, there, pids, job),
                },
                rounds, show,
            )
        finally:
            for process in filter(None, (here, there)):
                process.close()
    by_fit, _, features, *sent = found["there"]
    return OnWorkers(
        found["here"][0], by_fit, dict(zip(traffic.between(pids), sent)),
        int(features.median),
    )


def _counted(run, pids, job):
    """The answer of `run`, and the bytes sent per iteration meanwhile."""
    before = traffic.between(pids)
    answer = run()
    after = traffic.between(pids)
    # Twice the iterations: by `fit`, and in a plain loop.
    return [
        *answer,
        *((after[p] - before[p]) / (2 * job.num_steps) for p in before),
    ]


def prepare(job, addresses):
    """Runs in its own process.

    Args:
        job: `benchmarks.job.Job`.
        addresses: list of str, of the workers.

    Returns:
        Callable like that of `compute.prepare`, which also returns the bytes
        of the features that cross boundaries.
    """
    fr_keras.cluster.connect(addresses)
    model = job.algorithm("features_replay", len(addresses))
    job.compile(model, steps_per_execution=job.steps_per_execution)
    run = compute.runs(
        model, job, fr_keras.cluster.host(model.devices[0])
    )
    features = sum(
        # Error gradients are as large as features.
        num_bytes(variable.read_value())
        for queues in model.pipeline.queues for queue in queues[1:]
        for variable in queue.variables
    )
    return lambda: [*run(), features]
