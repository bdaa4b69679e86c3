"""The clock: when the functions of modules began and ended, in one graph."""

import contextlib
import typing

import tensorflow as tf


class Timed(typing.NamedTuple):
    """A call of a function of a module.

    Attributes:
        module: int, the number of the module, from 0.
        name: str, of the function: play, replay, learn, update.
        start: scalar tensor, float64, when all that it needs was there,
            seconds.
        stop: scalar tensor, when all of its results were.
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
    """Lets the clock run while iterations are traced.

    Args:
        wanted: bool, whether to do so.

    Yields:
        List of `Timed`, to which calls are added; those in functions that are
        traced meanwhile are not, being no tensors here.
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
    """Whether the calls of functions that are traced now are timed."""
    return bool(_running) and (
        _running[-1].graph is tf.compat.v1.get_default_graph()
    )


def with_times(function, device, run_eagerly=False):
    """A function that says when it began and ended.

    Args:
        function: callable on nests of tensors.
        device: full name of the device on which it works.
        run_eagerly: bool, whether not to trace it.

    Returns:
        Callable that returns a tuple `(result, start, stop)`, of which the
        last two are for `note`.
    """

    with tf.init_scope(), tf.device(device):
        own = tf.Variable(0.0, trainable=False)

    def timed(*args):
        # Side effects without a variable would wait for each other.
        with tf.control_dependencies([own.read_value()]):
            start = tf.timestamp()
        with tf.control_dependencies([start]):
            result = function(*args)
        with tf.control_dependencies(_tensors(result)):
            stop = tf.timestamp()
        return result, start, stop

    if run_eagerly:
        return timed
    # A function around the function, so that who waits for it waits for the
    # clock: looked at beside others, it would be when a thread is free.
    return tf.function(
        timed, autograph=False, reduce_retracing=True,
        experimental_attributes={"_noinline": True},
    )


def note(module, name, start, stop):
    """Adds a call; the arguments are those of `Timed`."""
    _running[-1].calls.append(Timed(module, name, start, stop))


def _tensors(nest):
    return [
        tensor for tensor in tf.nest.flatten(nest, expand_composites=True)
        if tf.is_tensor(tensor)
    ]
