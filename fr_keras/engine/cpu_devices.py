"""Logical CPU devices that stand in for accelerators."""

import numbers
import os

import tensorflow as tf


def use_cpu_devices(count: int) -> list[str]:
    """Splits the CPU into logical devices, one for each module.

    Call this first: TensorFlow fixes its devices when it starts. Modules share
    the cores of the CPU, so they run fully in parallel only if there is a core
    for each. Each operation gets as many threads as there are cores per device.

    Args:
        count: int, the number of devices, at least 1.

    Returns:
        List of `count` device names, for the `devices` argument of a method.

    Raises:
        ValueError: if `count` is not a positive integer.
        RuntimeError: if TensorFlow has started with another number of devices.

    Example:

    ```python
    import fr_keras

    fr_keras.use_cpu_devices(4)
    network = fr_keras.models.resnet(20, num_classes=10)
    model = fr_keras.FeaturesReplay(network, num_modules=4)
    ```
    """
    if (
        isinstance(count, bool) or not isinstance(count, numbers.Integral)
        or count < 1
    ):
        raise ValueError(
            f"`count` must be an integer, at least 1. Received: {count=}"
        )
    names = [f"CPU:{i}" for i in range(count)]
    try:
        _configure(count)
    except RuntimeError as error:
        running = len(tf.config.list_logical_devices("CPU"))
        if running != count:
            raise RuntimeError(
                "`use_cpu_devices` must be called before TensorFlow starts, so "
                "before any model or tensor is created. TensorFlow is already "
                f"running with {running} CPU devices. Received: {count=}"
            ) from error
    return names


def _configure(count):
    (cpu,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(
        cpu, [tf.config.LogicalDeviceConfiguration()] * count
    )
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    tf.config.threading.set_intra_op_parallelism_threads(
        max(1, cores // count)
    )
    # One more than the cores, for operations that only wait.
    tf.config.threading.set_inter_op_parallelism_threads(cores + 1)
