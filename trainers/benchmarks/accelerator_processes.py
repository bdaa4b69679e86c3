"""Accelerators: what is measured, each in a process of its own."""

import dataclasses
import os
import tempfile
import time

import keras
import tensorflow as tf

import fr_keras
from fr_keras.planning.planner import Planner
from trainers.benchmarks import accelerator_networks, batches, partitions
from trainers.command import logical_devices, peak_memory

STOCK = "stock Keras"

_MICROBATCHES = 4
_OPTIONS = {
    "gpipe": {"num_microbatches": _MICROBATCHES},
    "pipeline": {"num_microbatches": _MICROBATCHES, "schedule": "zb-h1"},
}
# What the planner calls the methods.
SCHEDULES = {
    "backprop": "backprop", "features_replay": "features_replay",
    "ddg": "ddg", "gpipe": "gpipe", "pipeline": "zb-h1",
}


@dataclasses.dataclass(frozen=True)
class Case:
    """What all methods are measured on.

    Attributes:
        network: str, one of `accelerator_networks.NETWORKS`.
        batch_size: int.
        num_steps: int, iterations in a round, whole calls.
        steps_per_execution: int, iterations in a call.
        dtype_policy: str, a Keras policy.
        jit_compile: bool, whether XLA compiles the modules.
    """

    network: str
    batch_size: int
    num_steps: int
    steps_per_execution: int
    dtype_policy: str = "float32"
    jit_compile: bool = False

    def variants(self):
        """The cases to measure, the most telling first."""
        replace = dataclasses.replace
        bfloat16 = {"dtype_policy": "mixed_bfloat16"}
        yield self
        yield replace(self, **bfloat16)
        yield replace(self, jit_compile=True)
        yield replace(self, **bfloat16, jit_compile=True)
        if self.steps_per_execution > 1:
            yield replace(self, steps_per_execution=1)


def prepare(case, method, num_modules):
    """One of the methods, on a device for each module.

    Args:
        case: `Case`.
        method: str.
        num_modules: int, K.

    Returns:
        Callable without arguments that returns seconds per iteration, those of
        the calling thread, and bytes as of `peak_memory.read_each`.
    """
    model, data, devices = _compiled(case, method, num_modules)

    def train():
        iterator = iter(data)
        for _ in range(case.num_steps // case.steps_per_execution):
            logs = model.train_function(iterator)
        float(logs["loss"])  # Waits for the devices.

    def run():
        peak_memory.reset(devices)
        own, start = time.thread_time(), time.perf_counter()
        train()
        seconds = time.perf_counter() - start
        return (
            seconds / case.num_steps,
            (time.thread_time() - own) / case.num_steps,
            peak_memory.read_each(devices),
        )

    # Traces, and completes the warm-up.
    model.fit(data, verbose=0, shuffle=False)
    train()
    return run


def prepare_placement(case, method, num_modules):
    """Where the operations of one of the methods are.

    Args:
        case: `Case`.
        method: str.
        num_modules: int, K.

    Returns:
        Callable without arguments that returns a list of
        `partitions.Partition`.
    """
    model, data, _ = _compiled(case, method, num_modules, apart=True)

    def train():
        model.fit(
            data.take(2 * case.steps_per_execution), verbose=0, shuffle=False
        )
        return model.training.graph

    def run():
        with tempfile.TemporaryDirectory() as folder:
            return partitions.record(train, folder)

    return run


def prepare_plan(case, numbers):
    """What the planner says of a case.

    Args:
        case: `Case`.
        numbers: list of ints, K.

    Returns:
        Callable without arguments that returns a dict from K to a dict from
        schedules to `(seconds, bytes)`.
    """
    _devices(case, 1)
    network, (x, _) = accelerator_networks.build(case.network, case.batch_size)

    def run():
        planner = Planner(network, x, optimizer=_optimizer())
        found = {}
        for num_modules in numbers:
            of_modules = planner.predict(
                num_modules, steps_per_execution=case.steps_per_execution,
                schedules=[*SCHEDULES.values()],
                num_microbatches=_MICROBATCHES,
            )
            found[num_modules] = {
                name: (seconds, of_modules.memory[name])
                for name, seconds in of_modules.seconds.items()
            }
        return found

    return run


def prepare_profile(case, num_modules, folder):
    """A profile of one call of Features Replay.

    Args:
        case: `Case`.
        num_modules: int, K.
        folder: str.

    Returns:
        Callable without arguments.
    """
    model, data, _ = _compiled(case, "features_replay", num_modules)

    def run():
        model.fit(data, verbose=0, shuffle=False)
        iterator = iter(data)
        os.makedirs(folder, exist_ok=True)
        tf.profiler.experimental.start(folder)
        try:
            float(model.train_function(iterator)["loss"])
        finally:
            tf.profiler.experimental.stop()

    return run


def _devices(case, count, apart=False):
    """Names of devices, with `apart` none of which is the host."""
    keras.config.set_dtype_policy(case.dtype_policy)
    if apart and not tf.config.list_physical_devices("GPU"):
        return logical_devices.start(count + 1)[1:]
    return logical_devices.start(count)


def _compiled(case, method, num_modules, apart=False):
    """A model, its data and the full names of its devices."""
    names = _devices(case, num_modules, apart)
    network, batch = accelerator_networks.build(case.network, case.batch_size)
    if method == STOCK:
        model = network
        devices = [tf.config.list_logical_devices(names[0][:3])[0].name]
    else:
        model = fr_keras.ALGORITHMS[method](
            network, num_modules, names, **_OPTIONS.get(method, {})
        )
        devices = [*model.devices]
    model.compile(
        _optimizer(),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        steps_per_execution=case.steps_per_execution,
        jit_compile=case.jit_compile,
    )
    return model, batches.repeated(batch).take(case.num_steps), devices


def _optimizer():
    return keras.optimizers.SGD(0.01, momentum=0.9)
