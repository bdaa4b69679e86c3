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


_running = []


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


def timed(function, module, name, args):
    """Calls a function, by the clock if it is running.

    Args:
        function: callable.
        module: as of `Timed`; `None` for what belongs to no single module.
        name: as of `Timed`.
        args: tuple of nests of tensors.

    Returns:
        What the function returns.
    """
    if (
        not _running or module is None
        or _running[-1].graph is not tf.compat.v1.get_default_graph()
    ):
        return function(*args)
    start = _now(_tensors(args))
    with tf.control_dependencies([start]):
        result = function(*args)
    stop = _now(_tensors(result))
    # Who waits for the results waits for the clock, so that it is looked at
    # first, and not when a thread has nothing better to do.
    with tf.control_dependencies([stop]):
        result = tf.nest.map_structure(
            lambda leaf: tf.identity(leaf) if tf.is_tensor(leaf) else leaf,
            result, expand_composites=True,
        )
    _running[-1].calls.append(Timed(module, name, start, stop))
    return result


def _now(tensors):
    """The time when tensors are there."""
    with tf.control_dependencies(tensors):
        now = tf.timestamp()
    if not tf.executing_eagerly():
        # Otherwise each would wait for the one before, as for a side effect.
        graph = tf.compat.v1.get_default_graph()
        graph.experimental_acd_manager.run_independently(now.op)
    return now


def _tensors(nest):
    return [
        tensor for tensor in tf.nest.flatten(nest, expand_composites=True)
        if tf.is_tensor(tensor)
    ]
