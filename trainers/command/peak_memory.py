"""Peak memory allocated on devices."""

import contextlib

import tensorflow as tf


def reset(devices):
    """Resets the peaks.

    Args:
        devices: list of full device names.
    """
    with contextlib.suppress(ValueError):  # Not all allocators count.
        for device in _counted(devices):
            tf.config.experimental.reset_memory_stats(device)


def read(devices):
    """Bytes of all devices together, or `None` if they are not counted.

    Args:
        devices: list of full device names.
    """
    found = read_each(devices)
    return None if found is None else sum(found.values())


def read_each(devices):
    """Dict from devices to bytes, or `None` if they are not counted.

    Args:
        devices: as for `read`; all of a CPU are one, `"CPU:0"`.
    """
    try:
        return {
            device: tf.config.experimental.get_memory_info(device)["peak"]
            for device in _counted(devices)
        }
    except ValueError:
        return None


def _counted(devices):
    """The devices whose allocators count for the given devices."""
    # All logical CPU devices are counted together.
    return sorted({
        "CPU:0" if ":CPU:" in device else device for device in devices
    })
