"""Slow links: methods on workers whose links the kernel limits."""

import contextlib
import dataclasses
import functools
import itertools
import math
import time

import tensorflow as tf

import fr_keras
from fr_keras.planning import simulation
from fr_keras.planning.planner import Planner
from fr_keras.profiling.module_times import ModuleTimes
from fr_keras.schedules import SCHEDULES
from trainers.benchmarks import (
    batches,
    compute,
    layouts,
    processes,
    sleeping,
    turns,
)
from trainers.benchmarks.job import start
from trainers.command import cores
from trainers.workers import linked_workers

RATES = (math.inf, 1e9, 200e6, 50e6)  # In bits per second.

# Names of methods, and their algorithms and options.
METHODS = {
    "backprop": ("backprop", {}),
    "gpipe": ("gpipe", {}),
    "1f1b": ("pipeline", {"schedule": "1f1b"}),
    "zb-h1": ("pipeline", {"schedule": "zb-h1"}),
    "ddg": ("ddg", {}),
    "features_replay": ("features_replay", {}),
    "features_replay, bfloat16": (
        "features_replay", {"link_dtype": "bfloat16"}
    ),
    "features_replay, 4 micro-batches": (
        "features_replay", {"num_microbatches": 4}
    ),
}

# Features of 128 examples behind the second stage of a ResNet for CIFAR, and
# as many error gradients.
EXAMPLES, _WIDTH = 128, 16 * 16 * 32
BYTES = EXAMPLES * _WIDTH * 4

# Of exact pipelines, whose graphs have many more functions.
_STEPS_OF_MICROBATCHES = 4


@dataclasses.dataclass
class Found:
    """Measurements of K modules.

    Attributes:
        measured: dict from pairs of rate and name of a method to `Samples`,
            seconds per iteration.
        predicted: dict with the same keys to seconds per iteration.
        sent: dict with the same keys to `Samples`, bytes per iteration that
            crossed the busiest link, in its busier direction.
        link: tuple of bytes per second and latency, of links without limits.
    """

    measured: dict
    predicted: dict
    sent: dict
    link: tuple


def measure_sleeping(num_modules, tau, steps_per_execution, rounds, show, draw):
    """Measures modules that only sleep: forward τ, backward 2τ.

    Args:
        num_modules: int, K.
        tau: float, seconds.
        steps_per_execution: int, of methods without micro-batches.
        rounds: int.
        show: as for `turns.take`.
        draw: callable that is passed the rate and a list of `Event`s, of a call
            of Features Replay.

    Returns:
        `Found`.
    """
    of_work = num_modules, tau, steps_per_execution
    program = (
        "trainers.benchmarks.sleeping_worker", str(linked_workers.PORT)
    )
    with linked_workers.started(num_modules, program=program) as workers:
        show(f"K={num_modules}: measuring the links")
        link = _link(workers)
        show(f"K={num_modules}: preparing")
        process = processes.Process(
            None, prepare_sleeping, workers.addresses, *of_work
        )
        try:
            found = _measure(
                workers, process, rounds, show,
                _predict_sleeping(*of_work, link), link,
            )
            for rate in RATES:
                workers.limit(rate)
                draw(rate, process("events"))
        finally:
            process.close()
    return found


def measure_network(job, num_modules, rounds, show):
    """Measures a network on workers with a core each.

    Args:
        job: `benchmarks.job.Job`.
        num_modules: int, K, at most the number of cores.
        rounds: int.
        show: as for `turns.take`.

    Returns:
        `Found`.
    """
    there = cores.available()[:num_modules]
    show("measuring the layers")
    job = dataclasses.replace(
        job, costs=processes.once({there[0]}, compute.prepare_costs, job)
    )
    with linked_workers.started(num_modules, own_cores=True) as workers:
        show("measuring the links")
        link = _link(workers)
        show("predicting")
        # Cores share caches and memory, and work at the same time.
        with contextlib.closing(processes.OnCores(
            there, prepare_plans, job, num_modules, link
        )) as planners:
            predicted = planners()
        show("preparing")
        process = processes.Process(
            {*there}, prepare_network, workers.addresses, job
        )
        try:
            return _measure(workers, process, rounds, show, predicted, link)
        finally:
            process.close()


def _link(workers):
    return processes.once(
        None, layouts.prepare_links, len(workers.addresses), workers.addresses
    )


def _measure(workers, process, rounds, show, predicted, link):
    measured, sent = {}, {}
    for rate in RATES:
        workers.limit(rate)
        contestants = {
            (rate, name): functools.partial(_counted, workers, process, name)
            for name in METHODS
        }
        for key, (seconds, of_link) in turns.take(
            contestants, rounds, show
        ).items():
            measured[key], sent[key] = seconds, of_link
    return Found(measured, predicted, sent, link)


def _counted(workers, process, name):
    """Seconds per iteration, and bytes over the busiest link."""
    before = workers.sent()
    seconds, num_steps = process(name)
    after = workers.sent()
    return [
        seconds, max(after[pair] - before[pair] for pair in after) / num_steps
    ]


def _steps_per_execution(name, most):
    if name == "backprop":
        return 1
    return min(most, _STEPS_OF_MICROBATCHES) if name in SCHEDULES else most


def _num_steps(name, steps_per_execution):
    """Iterations in a round: a call, or a few of those that gain nothing."""
    return max(
        _steps_per_execution(name, steps_per_execution),
        min(steps_per_execution, _STEPS_OF_MICROBATCHES),
    )


def _num_microbatches(name, num_modules):
    """Keyword arguments of a method, M if it has micro-batches."""
    if name in SCHEDULES:
        return {"num_microbatches": 2 * num_modules}
    options = METHODS[name][1]
    return {key: options[key] for key in options if key == "num_microbatches"}


def _at(rate, name, link):
    """Features per second, in bytes of float32, and latency of a link.

    Args:
        rate: float, bits per second to which it is limited.
        name: str, the method.
        link: as in `Found`.
    """
    bytes_per_second, latency = link
    narrower = 2 if "link_dtype" in METHODS[name][1] else 1
    return narrower * min(rate / 8, bytes_per_second), latency


def _schedule(name):
    """The name of a method in `simulation.SCHEDULES`."""
    return name.partition(",")[0]


def _predict_sleeping(num_modules, tau, steps_per_execution, link):
    predicted = {}
    for rate, name in itertools.product(RATES, METHODS):
        bytes_per_second, latency = _at(rate, name, link)
        sending = BYTES / bytes_per_second + latency
        times = [
            ModuleTimes(
                tau, 2 * tau, 0.0,
                sending if k < num_modules - 1 else 0.0, sending if k else 0.0,
                latency,
            )
            for k in range(num_modules)
        ]
        predicted[rate, name] = simulation.seconds_per_step(
            _schedule(name), times,
            _steps_per_execution(name, steps_per_execution),
            **_num_microbatches(name, num_modules),
        )
    return predicted


# The functions below run in their own processes.


def prepare_sleeping(addresses, num_modules, tau, steps_per_execution):
    """The methods with sleeping modules.

    Args:
        addresses: list of str, of the workers.
        num_modules: int, K.
        tau: float, seconds.
        steps_per_execution: int.

    Returns:
        Callable that takes the name of a method, and returns a list of seconds
        per iteration and the number of iterations that it ran; or that takes
        `"events"`, and returns a list of `simulation.Event`, the work in a call
        of Features Replay.
    """
    fr_keras.cluster.connect(addresses)
    runs = {}
    for name, (algorithm, options) in METHODS.items():
        of_parts = _num_microbatches(name, num_modules)
        # Every micro-batch sleeps.
        part = tau / of_parts.get("num_microbatches", 1)
        runs[name] = sleeping.prepare(
            functools.partial(
                fr_keras.ALGORITHMS[algorithm], **options | of_parts
            ),
            [ModuleTimes(part, 2 * part)] * num_modules,
            _steps_per_execution(name, steps_per_execution),
            _num_steps(name, steps_per_execution), EXAMPLES,
            name.startswith("zb"), _WIDTH,
        )

    def run(name):
        if name == "events":
            return runs["features_replay"]()
        num_steps = _num_steps(name, steps_per_execution)
        begin = time.perf_counter()
        runs[name]()
        return [(time.perf_counter() - begin) / num_steps, num_steps]

    return run


def prepare_network(addresses, job):
    """The methods with a network.

    Args:
        addresses: list of str, of the workers.
        job: `benchmarks.job.Job`.

    Returns:
        Callable that takes the name of a method, and returns a list of seconds
        per iteration and the number of iterations that it ran.
    """
    fr_keras.cluster.connect(addresses)
    runs = {}
    for name, (algorithm, options) in METHODS.items():
        model = job.algorithm(
            algorithm, len(addresses),
            **options | _num_microbatches(name, len(addresses)),
        )
        job.compile(model, steps_per_execution=_steps_per_execution(
            name, job.steps_per_execution
        ))
        num_steps = _num_steps(name, job.steps_per_execution)
        with tf.device(fr_keras.cluster.host(model.devices[0])):
            data = batches.repeated(job.batch()).take(num_steps)
        runs[name] = functools.partial(
            model.fit, data, verbose=0, shuffle=False
        )
        for _ in range(2):
            runs[name]()  # Traces, and completes the warm-up.

    def run(name):
        num_steps = _num_steps(name, job.steps_per_execution)
        begin = time.perf_counter()
        runs[name]()
        return [(time.perf_counter() - begin) / num_steps, num_steps]

    return run


def prepare_plans(job, num_modules, link):
    """The planner, given the network, one core and the links.

    Args:
        job: `benchmarks.job.Job`.
        num_modules: int, K.
        link: as in `Found`.

    Returns:
        Callable without arguments that returns `predicted` as in `Found`.
    """
    start(num_devices=1, threads=1, parallel=1)
    x, _ = job.batch()

    def run():
        planner = Planner(job.network(), x)
        predicted = {}
        for rate, name in itertools.product(RATES, METHODS):
            found = planner.predict(
                num_modules, *_at(rate, name, link), balanced=True,
                schedules=(_schedule(name),),
            )
            predicted[rate, name] = simulation.seconds_per_step(
                _schedule(name), found.times,
                _steps_per_execution(name, job.steps_per_execution),
                **_num_microbatches(name, num_modules),
            )
        return predicted

    return run
