"""How much memory devices had allocated at most."""

import contextlib

import tensorflow as tf


def reset(devices):
    """Begins to count anew.

    Args:
        devices: list of full device names.
    """
    with contextlib.suppress(ValueError):  # Not every allocator counts.
        for device in _counted(devices):
            tf.config.experimental.reset_memory_stats(device)


def read(devices):
    """Bytes, of all devices together, or `None` where nobody counts.

    Args:
        devices: list of full device names.
    """
    try:
        return sum(
            tf.config.experimental.get_memory_info(device)["peak"]
            for device in _counted(devices)
        )
    except ValueError:
        return None


def _counted(devices):
    """The devices whose allocators count for the given ones."""
    # Those of all logical CPU devices count together.
    return sorted({
        "CPU:0" if ":CPU:" in device else device for device in devices
    })
