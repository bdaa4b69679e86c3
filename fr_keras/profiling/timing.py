"""Timing: how many seconds a function takes on its device."""

import statistics
import time

import tensorflow as tf

_CALLS = 4  # In one graph.
_LEAST_SECONDS = 0.05  # Of one timed run.
_REPETITIONS = 5


def seconds_of(function, *args):
    """Measures the seconds that a traced function takes in a graph.

    Args:
        function: callable that returns a nest of at least one tensor;
            `DeviceFunction` or `tf.function`.
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
            # Results that are not returned would not be computed.
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
        The result of the function.
    """
    return _traced(lambda: function(*args))()


def _traced(function):
    """Traces a function without arguments once."""
    # (TensorFlow complains about many functions that are traced when called.)
    return tf.function(function, autograph=False).get_concrete_function()
