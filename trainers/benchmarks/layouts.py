"""N devices as K modules × r replicas, in one process and on N workers."""

import contextlib
import dataclasses

import fr_keras
from fr_keras.engine import placement
from fr_keras.planning.layouts import predict_layouts
from fr_keras.planning.links import measure_links
from fr_keras.planning.planner import Planner
from trainers.benchmarks import compute, processes, turns
from trainers.benchmarks.job import start
from trainers.benchmarks.processes import HERE, THERE
from trainers.command import cores
from trainers.workers import local_workers


@dataclasses.dataclass
class Found:
    """Measurements of N devices.

    Attributes:
        one: `Samples`, seconds per iteration of back-propagation on one core.
        measured: dict from `(algorithm, K, r, place)`, the last of them `HERE`
            or `THERE`, to `Samples`, seconds per iteration.
        predicted: the same, as predicted in the same rounds.
        links: dict from places to pairs of bytes per second and latency.
    """

    one: turns.Samples
    measured: dict
    predicted: dict
    links: dict


def measure(job, num_devices, rounds, show):
    """Measures all layouts of a number of devices, a core each.

    With K = 1 the method is back-propagation, otherwise Features Replay.
    Modules are balanced by the times of layers on one core. The planner
    measures layers on every core while the others do the same, since cores
    share caches and memory; the slowest counts.

    Args:
        job: `benchmarks.job.Job`.
        num_devices: int, N, at most the number of cores.
        rounds: int.
        show: as for `turns.take`.

    Returns:
        `Found`.
    """
    there = cores.available()
    one, each = {there[0]}, {*there[:num_devices]}
    show("measuring the layers")
    job = dataclasses.replace(
        job, costs=processes.once(one, compute.prepare_costs, job)
    )
    show("measuring the links")
    links = {HERE: processes.once(each, prepare_links, num_devices)}
    with local_workers.started(num_devices) as workers:
        links[THERE] = processes.once(
            each, prepare_links, num_devices, _addresses(workers)
        )
    with contextlib.ExitStack() as stack:
        started = {}
        show("predicting")
        planners = processes.OnCores(
            there[:num_devices], prepare_plans, job, num_devices, links
        )
        stack.callback(planners.close)
        keys = list(planners())

        def begin(name, *of_process):
            show(f"preparing {name}")
            started[name] = processes.Process(*of_process)
            stack.callback(started[name].close)

        begin("one", one, compute.prepare, job, "backprop", 1)
        for key in keys:
            *layout, place = key
            if place == HERE:
                algorithm, num_modules, replicas = layout
                begin(
                    key, each, compute.prepare, job, algorithm, num_modules,
                    None, 1, replicas,
                )
            else:
                # A worker serves one program at a time.
                workers = stack.enter_context(
                    local_workers.started(num_devices)
                )
                begin(key, each, prepare, job, _addresses(workers), *layout)
        # In turns too: a machine is not equally fast at all times.
        started["planner"] = lambda: list(map(planners().get, keys))
        found = turns.take(started, rounds, show)
    predicted = dict(zip(keys, found.pop("planner")))
    by_fit = {key: samples[0] for key, samples in found.items()}
    return Found(by_fit.pop("one"), by_fit, predicted, links)


def _addresses(workers):
    return [worker.address for worker in workers]


# The functions below run in their own processes.


def prepare_links(num_devices, addresses=None):
    """The links between devices here, or between those of workers.

    Args:
        num_devices: int.
        addresses: list of str, or `None` for devices of this process.

    Returns:
        Callable without arguments, like `measure_links` of the devices.
    """
    if addresses is None:
        start(num_devices, threads=1, parallel=num_devices)
    else:
        fr_keras.cluster.connect(addresses)
    return lambda: measure_links(placement.assign_devices(num_devices))


def prepare_plans(job, num_devices, links):
    """The planner, given the network, one core and the links.

    Args:
        job: `benchmarks.job.Job`.
        num_devices: int.
        links: as in `Found`.

    Returns:
        Callable without arguments that returns `predicted` as in `Found`.
    """
    start(num_devices=1, threads=1, parallel=1)
    x, _ = job.batch()

    def run():
        planner = Planner(job.network(), x)
        predicted = {}
        for place, link in links.items():
            layouts = predict_layouts(
                planner, num_devices, job.batch_size, *link, balanced=True,
                steps_per_execution=job.steps_per_execution,
                # The core of a worker also sends and receives.
                load=float(place == THERE),
            )
            for (num_modules, replicas), prediction in layouts.items():
                method = "backprop" if num_modules == 1 else "features_replay"
                predicted[method, num_modules, replicas, place] = (
                    prediction.seconds[method]
                )
        return predicted

    return run


def prepare(job, addresses, algorithm, num_modules, replicas):
    """As `compute.prepare`, on workers.

    Args:
        job: `benchmarks.job.Job`.
        addresses: list of str, of the workers.
        algorithm: str, one of `fr_keras.ALGORITHMS`.
        num_modules: int, K.
        replicas: int, r.

    Returns:
        As `compute.prepare`.
    """
    fr_keras.cluster.connect(addresses)
    model = job.algorithm(algorithm, num_modules, replicas=replicas)
    job.compile(model, steps_per_execution=job.steps_per_execution)
    return compute.runs(model, job, fr_keras.cluster.host(model.devices[0]))
