"""Timing: the seconds that a function takes on its device."""

import statistics
import time

import tensorflow as tf

_CALLS = 4  # In one graph.
_LEAST_SECONDS = 0.05  # Of what is timed at once.
_REPETITIONS = 5


def seconds_of(function, *args):
    """Seconds that a traced function takes, called from a graph.

    Args:
        function: callable that returns a nest of tensors, of which at least
            one; `DeviceFunction` or `tf.function`.
        *args: nests of tensors.

    Returns:
        float: the median of several measurements.
    """

    def calls():
        of_all = [[]]
        for _ in range(_CALLS):
            with tf.control_dependencies(of_all[-1]):
                of_all.append([
                    tensor.values if isinstance(tensor, tf.IndexedSlices)
                    else tensor
                    for tensor in tf.nest.flatten(function(*args))
                    if tensor is not None
                ])
        with tf.control_dependencies(of_all[-1]):
            # What is not returned would not be computed.
            return of_all, tf.constant(0)

    call = _traced(calls)

    def run(times):
        start = time.perf_counter()
        for _ in range(times):
            _, end = call()
            end.numpy()  # Waits for the device.
        return time.perf_counter() - start

    run(1)
    times = 1 + int(_LEAST_SECONDS / run(1))
    return statistics.median(
        run(times) / (times * _CALLS) for _ in range(_REPETITIONS)
    )


def run_once(function, *args):
    """Runs a function once, as part of a graph.

    Args:
        function: `DeviceFunction` or `tf.function`.
        *args: nests of tensors.

    Returns:
        What the function returns.
    """
    return _traced(lambda: function(*args))()


def _traced(function):
    """A function without arguments, traced for good."""
    # (One that is traced when it is called complains if many are.)
    return tf.function(function, autograph=False).get_concrete_function()
