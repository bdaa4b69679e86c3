"""Peak memory allocated on devices."""

import functools

import tensorflow as tf

from fr_keras.engine import placement


def reset(devices):
    """Resets the peaks.

    Args:
        devices: list of device names; short ones are of this process.
    """
    for device in _counted(devices) or ():
        tf.config.experimental.reset_memory_stats(device)


def read(devices):
    """Bytes of all devices together, or `None` if they are not counted.

    Args:
        devices: list of device names; short ones are of this process.
    """
    found = read_each(devices)
    return None if found is None else sum(found.values())


def read_each(devices):
    """Dict from devices to bytes, or `None` if they are not counted.

    Args:
        devices: as for `read`; all of a CPU are one, `"CPU:0"`.
    """
    counted = _counted(devices)
    if counted is None:
        return None
    return {
        device: tf.config.experimental.get_memory_info(device)["peak"]
        for device in counted
    }


def _counted(devices):
    """The devices whose allocators count for the given devices, or `None`."""
    if not all(_is_here(device) and _counts(device) for device in devices):
        return None
    # All logical CPU devices are counted together.
    return sorted({
        "CPU:0" if tf.DeviceSpec.from_string(device).device_type == "CPU"
        else device for device in devices
    })


def _is_here(device):
    """Whether a device belongs to this process."""
    is_short = tf.DeviceSpec.from_string(device).job is None
    return is_short or placement.is_here(device)


@functools.cache
def _counts(device):
    """Whether an allocator counts all it allocates, small tensors too."""
    before = _current(device)
    if before is None:
        return False
    with tf.device(device):
        small = tf.random.stateless_uniform([1024], [0, 0])
        return _current(device) >= before + small.shape[0] * small.dtype.size


def _current(device):
    try:
        return tf.config.experimental.get_memory_info(device)["current"]
    except ValueError:
        return None
