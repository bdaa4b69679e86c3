"""Copies between devices: whether data arrive, and how fast."""

import itertools

import numpy as np
import tensorflow as tf

from fr_keras.engine.placement import host, short_name
from fr_keras.planning.links import measure_links
from trainers.checkup.findings import FAIL, OK, Finding, failures_of

# Beyond this number only neighbours are examined, which is what modules use.
_MOST_DEVICES = 8
_NUM_VALUES = 2**20


def examine(devices, report):
    """Sends data between every two devices.

    Args:
        devices: list of full device names, each once.
        report: callable that takes a `Finding`.
    """
    pairs = itertools.combinations(devices, 2)
    if len(devices) > _MOST_DEVICES:
        pairs = itertools.pairwise(devices)
    for pair in pairs:
        subject = "-".join(map(short_name, pair))
        with failures_of(subject, report):
            report(_examine(subject, *pair))


def _examine(subject, *pair):
    if not arrives(*pair):
        return Finding(
            FAIL, subject,
            "data arrive changed. Between GPUs this happens if the IOMMU is "
            "on: turn it off (amd_iommu=off, intel_iommu=off), or use devices "
            "of different machines",
        )
    if len({*map(host, pair)}) == 1 and all(":CPU:" in name for name in pair):
        return Finding(
            OK, subject, "the same memory; data arrive unchanged"
        )
    rate, latency = measure_links(pair)
    return Finding(
        OK, subject,
        f"{rate / 1e9:.3g} GB/s in each direction, latency "
        f"{latency * 1e6:.0f} µs; data arrive unchanged",
    )


def arrives(one, other):
    """Whether every value gets from a device to another one and back.

    Args:
        one: full device name.
        other: the same.
    """
    values = np.arange(_NUM_VALUES, dtype="int32")
    with tf.device(one):
        begun = tf.Variable(tf.cast(values, "float32"))

    @tf.function(autograph=False)
    def there_and_back():
        with tf.device(one):
            x = begun + 1.0
        with tf.device(other):
            x = x * 2.0
        with tf.device(one):
            return x - 1.0

    # (All exact: integers below 2^24.)
    return np.array_equal(there_and_back().numpy(), 2.0 * values + 1.0)
