"""The clock: start and end times of module functions, within one graph."""

import contextlib
import typing

import tensorflow as tf


class Timed(typing.NamedTuple):
    """A timed call of a module's function.

    Attributes:
        module: int, the number of the module, from 0.
        name: str, of the function: play, replay, learn, update.
        start: scalar tensor, float64, when all inputs were available, seconds.
        stop: scalar tensor, when all results were available.
    """

    module: int
    name: str
    start: tf.Tensor
    stop: tf.Tensor


class _Clock(typing.NamedTuple):
    graph: tf.Graph
    calls: list


_running: list[_Clock] = []


@contextlib.contextmanager
def running(wanted=True):
    """Runs the clock while iterations are traced.

    Args:
        wanted: bool, whether to run it.

    Yields:
        List of `Timed`, to which calls are appended, except those inside
        functions traced meanwhile, whose times belong to other graphs.
    """
    calls = []
    if not wanted:
        yield calls
        return
    _running.append(_Clock(tf.compat.v1.get_default_graph(), calls))
    try:
        yield calls
    finally:
        _running.pop()


def is_running():
    """Whether function calls in the graph being traced are timed."""
    return bool(_running) and (
        _running[-1].graph is tf.compat.v1.get_default_graph()
    )


def with_times(function, device, run_eagerly=False):
    """Wraps a function so that it also returns its start and end times.

    Args:
        function: callable on nests of tensors.
        device: full name of the device on which it runs.
        run_eagerly: bool, whether to skip tracing.

    Returns:
        Callable that returns a tuple `(result, start, stop)`, the last two for
        `record_call`.
    """

    with tf.init_scope(), tf.device(device):
        variable = tf.Variable(0.0, trainable=False)

    def timed(*args):
        # TensorFlow serializes side effects that are not tied to a variable.
        with tf.control_dependencies([variable.read_value()]):
            start = tf.timestamp()
        with tf.control_dependencies([start]):
            result = function(*args)
        with tf.control_dependencies(_tensors(result)):
            stop = tf.timestamp()
        return result, start, stop

    if run_eagerly:
        return timed
    # One function around both, so that waiting for it includes the clock: a
    # separate operation would read the clock whenever a thread is free.
    return tf.function(
        timed, autograph=False, reduce_retracing=True,
        experimental_attributes={"_noinline": True},
    )


def record_call(module, name, start, stop):
    """Records a call; the arguments are those of `Timed`."""
    _running[-1].calls.append(Timed(module, name, start, stop))


def _tensors(nest):
    return [
        tensor for tensor in tf.nest.flatten(nest, expand_composites=True)
        if tf.is_tensor(tensor)
    ]
