"""Links: how fast data gets from one device to another."""

import itertools
import math
import typing

import tensorflow as tf

from fr_keras.profiling.timing import seconds_of

_TURNS = 2  # There and back.
_BYTES = 2**22


class Link(typing.NamedTuple):
    """What lies between two devices.

    Attributes:
        bytes_per_second: float, in each direction.
        latency: float, seconds until sent data begin to arrive.
        load: float, the share of a device that is busy while it sends or
            receives: 1 for a CPU core that does this itself, 0 for a GPU.
    """

    bytes_per_second: float = math.inf
    latency: float = 0.0
    load: float = 0.0

    def travel(self, size):
        """Returns the seconds until so many bytes have arrived."""
        return self.latency + size / self.bytes_per_second

    def exchange(self, size):
        """Returns the seconds of an exchange in which a copy sends so much."""
        # Slices of gradients are sent, and then their sums.
        return size and 2 * self.latency + size / self.bytes_per_second


def measure_links(devices):
    """Measures the links between devices that follow each other.

    A tensor goes there and back, computed anew on each side. The same work
    without the way is subtracted. The devices should be otherwise idle.

    Args:
        devices: sequence of full device names.

    Returns:
        Tuple `(bytes_per_second, latency)` of floats, each the worst of all
        pairs of neighbours: bytes per second in one direction, and seconds
        until data begin to arrive. `(math.inf, 0.0)` for one device.
    """
    bytes_per_second, latency = math.inf, 0.0
    for pair in itertools.pairwise(devices):
        begins = _seconds_of_way(*pair, 4)
        sending = _seconds_of_way(*pair, _BYTES) - begins
        latency = max(latency, begins)
        if sending > 0:
            bytes_per_second = min(bytes_per_second, _BYTES / sending)
    return bytes_per_second, latency


def _seconds_of_way(source, target, size):
    """Seconds that so many bytes need from a device to another."""
    far, near = (
        seconds_of(_there_and_back(source, device, size))
        for device in (target, source)
    )
    return max(0.0, far - near) / (2 * _TURNS)


def _there_and_back(source, target, size):
    """A function that sends a tensor, and waits until it is back."""
    held = {}
    for device in (source, target):
        with tf.device(device):
            held[device] = tf.random.stateless_normal([size // 4], [0, 0])

    def there_and_back():
        x = held[source]
        # (Computed at the source first: what stays the same would be sent once
        # for all of several calls.)
        for device in (source, *(target, source) * _TURNS):
            with tf.device(device):
                # An operation that no optimizer of graphs can merge with the
                # next one, as it could additions of constants.
                x = tf.maximum(x, held[device])
        return x

    return there_and_back
