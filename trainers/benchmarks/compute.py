"""Real networks on CPU cores: algorithms, their bound, and stock Keras."""

import dataclasses
import time

import keras
import tensorflow as tf

import fr_keras
from fr_keras.planning import simulation
from fr_keras.planning.planner import Planner
from fr_keras.profiling.measurement import measure_modules
from fr_keras.profiling.module_times import ModuleTimes
from trainers.benchmarks import batches, processes, turns
from trainers.benchmarks.job import start
from trainers.command import cores

# Optional variants of Features Replay.
VARIANTS = ("xla", "mixed_bfloat16")


def measure(job, algorithms, variants, num_modules, rounds, show):
    """Measures training on one core per module, and on one core for all.

    Args:
        job: `benchmarks.job.Job`.
        algorithms: list of names of `fr_keras.ALGORITHMS`.
        variants: list of names of `VARIANTS`.
        num_modules: int, K, at most the number of cores.
        rounds: int.
        show: as for `turns.take`.

    Returns:
        Tuple `(rows, modules, predicted, events)`, with modules balanced by
        the times of layers on one core: list of rows, name and seconds per
        iteration (`Samples`); list of K `ModuleTimes` of `Samples`, for the
        modules of Features Replay, each measured alone on one core; seconds
        per iteration of Features Replay predicted by the planner, from layers
        that it measures on one core; and list of
        `fr_keras.planning.simulation.Event`, the work in one call of it.
    """
    there = cores.available()
    one, each = {there[0]}, {*there[:num_modules]}
    show("measuring the layers")
    job = dataclasses.replace(
        job, costs=processes.once(one, prepare_costs, job)
    )
    contestants = {
        "stock Keras, one core": (one, prepare_stock, job, 1),
        "stock Keras, all cores": (
            {*there}, prepare_stock, job, len(there)
        ),
        "Backprop, K=1, one core": (one, prepare, job, "backprop", 1),
        "Backprop, K=1, all cores": (
            {*there}, prepare, job, "backprop", 1, None, len(there)
        ),
    }
    for name in algorithms:
        contestants[f"{name}, K={num_modules}, a core each"] = (
            each, prepare, job, name, num_modules
        )
    if num_modules > 1:
        contestants[f"backprop, K=1, {num_modules} replicas, a core each"] = (
            each, prepare, job, "backprop", 1, None, 1, num_modules
        )
    for variant in variants:
        contestants[f"features_replay, K={num_modules}, {variant}"] = (
            each, prepare, job, "features_replay", num_modules, variant
        )
    contestants["modules"] = (one, prepare_modules, job, num_modules)
    started = {}
    try:
        for name, of_process in contestants.items():
            show(f"preparing {name}")
            started[name] = processes.Process(*of_process)
        measured = turns.take(started, rounds, show)
    finally:
        for process in started.values():
            process.close()
    show("predicting")
    predicted = processes.once(one, prepare_plan, job, num_modules)
    show("recording a call")
    events = processes.once(each, prepare_events, job, num_modules)
    flat = measured.pop("modules")
    modules = [
        ModuleTimes(*flat[i : i + 3]) for i in range(0, len(flat), 3)
    ]
    rows = []
    for name, samples in measured.items():
        by_fit, bare = samples
        rows.append((name, by_fit))
        if "features_replay" in name and "core each" in name:
            rows.append((f"{name}, without fit", bare))
    return rows, modules, predicted, events


def bounds(modules, rounds):
    """Iteration times if only the modules took time.

    Args:
        modules: list of `ModuleTimes` of `Samples`.
        rounds: int.

    Returns:
        Dict from `"backprop"` (over the modules on one core) and
        `"features_replay"` to `Samples`, seconds per iteration.
    """
    return {
        schedule: turns.Samples([
            simulation.seconds_per_step(schedule, [
                ModuleTimes(
                    of_module.forward.values[i],
                    of_module.backward.values[i],
                    of_module.update.values[i],
                )
                for of_module in modules
            ])
            for i in range(rounds)
        ])
        for schedule in ("backprop", "features_replay")
    }


# The functions below run in their own processes.


def prepare(
    job, algorithm, num_modules, variant=None, threads=1, replicas=1
):
    """One of our algorithms, on one logical CPU device per module.

    Args:
        job: `benchmarks.job.Job`.
        algorithm: str.
        num_modules: int, K.
        variant: str of `VARIANTS`, or `None`.
        threads: int, cores that an operation may use.
        replicas: int, r.

    Returns:
        Callable without arguments that returns seconds per iteration, a list
        of two: of `fit`, and of the same training function in a plain loop.
    """
    num_devices = num_modules * replicas
    start(num_devices, threads, parallel=max(num_devices, threads))
    if variant == "mixed_bfloat16":
        keras.config.set_dtype_policy(variant)
    model = job.algorithm(algorithm, num_modules, replicas=replicas)
    job.compile(
        model, steps_per_execution=job.steps_per_execution,
        jit_compile=variant == "xla",
    )
    return runs(model, job)


def prepare_stock(job, num_cores):
    """Stock Keras, with its own batch normalization.

    Args:
        job: `benchmarks.job.Job`.
        num_cores: int.

    Returns:
        As `prepare`.
    """
    start(num_devices=1, threads=num_cores, parallel=num_cores)
    model = with_stock_layers(job.network())
    job.compile(model, jit_compile=False)
    return runs(model, job)


def prepare_modules(job, num_modules):
    """The modules of Features Replay, one by one.

    Args:
        job: `benchmarks.job.Job`.
        num_modules: int, K.

    Returns:
        Callable without arguments that returns a list of floats, seconds of
        forward pass, backward pass and update of each module.
    """
    start(num_devices=1, threads=1, parallel=1)
    model = job.algorithm("features_replay", num_modules)
    job.compile(model)
    x, _ = job.batch()

    def run():
        return [
            seconds
            for times in measure_modules(
                model.pipeline.modules, model.optimizer, x
            )
            for seconds in (times.forward, times.backward, times.update)
        ]

    return run


def prepare_costs(job):
    """The times of the layers, each measured alone.

    Args:
        job: `benchmarks.job.Job`.

    Returns:
        Callable without arguments that returns a dict, as for
        `fr_keras.partition`.
    """
    start(num_devices=1, threads=1, parallel=1)
    x, _ = job.batch()
    return lambda: fr_keras.measure_costs(job.network(), x)


def prepare_plan(job, num_modules):
    """The planner, given the network and one core.

    Args:
        job: `benchmarks.job.Job`.
        num_modules: int, K.

    Returns:
        Callable without arguments that returns seconds per iteration of
        Features Replay.
    """
    start(num_devices=1, threads=1, parallel=1)
    x, _ = job.batch()
    return lambda: Planner(job.network(), x).predict(
        num_modules, steps_per_execution=job.steps_per_execution
    ).seconds["features_replay"]


def prepare_events(job, num_modules):
    """The timeline of Features Replay.

    Args:
        job: `benchmarks.job.Job`.
        num_modules: int, K.

    Returns:
        Callable without arguments that returns a list of `simulation.Event`.
    """
    start(num_devices=num_modules, threads=1, parallel=num_modules)
    model = job.algorithm("features_replay", num_modules)
    job.compile(model, steps_per_execution=job.steps_per_execution)

    def run():
        clock = fr_keras.diagnostics.BusyShares(job.steps_per_execution)
        # Calls for the warm-up, for the clock's own first call, and one more.
        data = batches.repeated(job.batch()).take(4 * job.steps_per_execution)
        model.fit(data, verbose=0, shuffle=False, callbacks=[clock])
        return clock.events

    return run


def with_stock_layers(network):
    """A copy of a network with Keras' layers in place of ours.

    Args:
        network: `keras.Model`.

    Returns:
        `keras.Model`, with new weights.
    """
    return keras.models.clone_model(network, clone_function=_stock)


def _stock(layer):
    config = layer.get_config()
    if isinstance(layer, fr_keras.layers.FusedBatchNormalization):
        return keras.layers.BatchNormalization.from_config(config)
    return layer.__class__.from_config(config)


def runs(model, job, device="CPU:0"):
    """As `prepare`, for a compiled model.

    Args:
        model: `keras.Model`.
        job: `benchmarks.job.Job`.
        device: str, the device of its data.

    Returns:
        As `prepare`.
    """
    with tf.device(device):
        data = batches.repeated(job.batch()).take(job.num_steps)

    def fit():
        model.fit(data, verbose=0, shuffle=False)

    def bare():
        iterator = iter(data)
        for _ in range(job.num_steps // model.steps_per_execution):
            logs = model.train_function(iterator)
        logs["loss"].numpy()

    def run():
        seconds = []
        for way in (fit, bare):
            start = time.perf_counter()
            way()
            seconds.append((time.perf_counter() - start) / job.num_steps)
        return seconds

    for _ in range(2):
        fit()  # Traces, and completes the warm-up.
    return run
