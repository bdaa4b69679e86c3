"""The schedule alone: modules that only sleep, measured and simulated."""

import dataclasses
import functools
import time

import tensorflow as tf

import fr_keras
from fr_keras.planning import simulation
from fr_keras.profiling.module_times import ModuleTimes
from fr_keras.schedules import INTERLEAVED, SCHEDULES
from fr_keras.visualization.timeline import plot_timeline
from trainers.benchmarks import sleeping, turns

_THREADS_PER_MODULE = 4  # A sleeping operation occupies a thread.

# Of exact pipelines, whose graphs have many more functions.
_STEPS_OF_MICROBATCHES = 4


def start(num_modules):
    """Configures devices, before TensorFlow starts.

    Args:
        num_modules: int, the largest K.
    """
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0],
        [tf.config.LogicalDeviceConfiguration()] * num_modules * 2,
    )
    tf.config.threading.set_inter_op_parallelism_threads(
        _THREADS_PER_MODULE * num_modules * 2  # (Two replicas.)
    )


def equal(num_modules, tau):
    """Equal modules: forward τ, backward 2τ.

    Args:
        num_modules: int, K.
        tau: float, seconds.

    Returns:
        List of `ModuleTimes`.
    """
    return [ModuleTimes(tau, 2 * tau)] * num_modules


def best_cut(num_modules, tau):
    """The same network, split so that all modules take equally long.

    Features Replay costs module k < K four forward passes, module K three.

    Args:
        num_modules: int, K.
        tau: float, seconds, of a Kth of the network.

    Returns:
        List of `ModuleTimes`.
    """
    share = 3 * num_modules / (3 * num_modules + 1)
    of_modules = [share] * (num_modules - 1) + [share * 4 / 3]
    return [ModuleTimes(c * tau, 2 * c * tau) for c in of_modules]


def measure(num_modules, tau, steps_per_execution, num_steps, rounds, show):
    """Measures the schedules of K modules.

    Args:
        num_modules: int, K.
        tau: float, seconds of a forward pass of a Kth of the network.
        steps_per_execution: int, U.
        num_steps: int, iterations in a round.
        rounds: int.
        show: as for `turns.take`.

    Returns:
        List of rows: name, measured seconds per iteration (`Samples`, or
        `None` if only simulated), and simulated seconds.
    """
    K, U = num_modules, steps_per_execution
    same, best = equal(K, tau), best_cut(K, tau)
    cases = {
        "back-propagation": ("backprop", same, 1, {}),
        "Features Replay, 1 iteration per call": (
            "features_replay", same, 1, {}
        ),
        f"Features Replay, {U} per call": ("features_replay", same, U, {}),
        f"Features Replay, {U} per call, no weight prediction": (
            "features_replay", same, U, {"weight_prediction": False}
        ),
        f"Features Replay, {U} per call, best split": (
            "features_replay", best, U, {}
        ),
        f"Features Replay, {U} per call, 2 replicas": (
            "features_replay", same, U, {"replicas": 2}
        ),
        f"DDG, {U} per call": ("ddg", same, U, {}),
    }
    contestants = {}
    for name, (algorithm, times, per_call, options) in cases.items():
        show(f"K={K}: preparing {name}")
        contestants[name] = _timed(
            functools.partial(fr_keras.ALGORITHMS[algorithm], **options),
            times, per_call, num_steps, options.get("replicas", 1),
        )
    M = 2 * K
    per_call = min(U, _STEPS_OF_MICROBATCHES)
    exact = {}
    for name in SCHEDULES:
        times = same
        if name == INTERLEAVED:
            times = [
                dataclasses.replace(of_module, device=f"CPU:{k % K}")
                for k, of_module in enumerate(equal(2 * K, tau / 2))
            ]
        exact[f"{name}, {M} micro-batches, {per_call} per call"] = name, times
    for name, (order, times) in exact.items():
        show(f"K={K}: preparing {name}")
        contestants[name] = _timed(
            functools.partial(
                fr_keras.Pipeline, num_microbatches=M, schedule=order,
                devices=[f"CPU:{k % K}" for k in range(len(times))],
            ),
            # Every micro-batch sleeps.
            equal(len(times), times[0].forward / M), per_call, num_steps, M,
            order.startswith("zb"),
        )
    measured = turns.take(contestants, rounds, show)
    rows = [
        (
            name, measured[name],
            simulation.seconds_per_step(algorithm, times, per_call),
        )
        for name, (algorithm, times, per_call, _) in cases.items()
    ] + [
        (name, measured[name], simulation.seconds_per_step(
            order, times, per_call, num_microbatches=M, recompute=False
        ))
        for name, (order, times) in exact.items()
    ]
    simulated = {
        "Features Replay, synchronized after play and backward (the paper)": (
            "synchronous", {}
        ),
        f"gpipe, {M} micro-batches, recomputing": (
            "gpipe", {"num_microbatches": M}
        ),
    }
    return rows + [
        (name, None, simulation.seconds_per_step(schedule, same, **options))
        for name, (schedule, options) in simulated.items()
    ] + [(
        "bound of Features Replay: the slowest module is always busy", None,
        simulation.seconds_per_step("features_replay", same),
    )]


def draw(path, num_modules, tau, num_steps=8):
    """Draws the measured timeline of one call of Features Replay.

    Args:
        path: str, of the picture.
        num_modules: int, K.
        tau: float, seconds of a forward pass.
        num_steps: int, iterations.
    """
    times = [
        ModuleTimes(tau, 2 * tau, tau / 4) for _ in range(num_modules)
    ]
    run = sleeping.prepare(
        fr_keras.FeaturesReplay, times, num_steps, num_steps
    )
    plot_timeline(
        run(), path,
        f"Features Replay, {num_steps} iterations in one call "
        f"(measured; play {tau * 1e3:.0f} ms)",
    )


def _timed(
    algorithm, times, steps_per_execution, num_steps, batch_size=1,
    splits=False,
):
    """A contestant: seconds per iteration of a whole `fit`."""
    num_steps = -(-num_steps // steps_per_execution) * steps_per_execution
    run = sleeping.prepare(
        algorithm, times, steps_per_execution, num_steps, batch_size, splits
    )

    def seconds():
        start = time.perf_counter()
        run()
        return (time.perf_counter() - start) / num_steps

    return seconds
