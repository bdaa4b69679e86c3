"""Checks on made-up data whether two models compute the same."""

import logging

import keras
import numpy as np
import tensorflow as tf

from fr_keras.engine import layer_variables, private
from fr_keras.engine.nested import Calls, is_graph

_logger = logging.getLogger("fr_keras")

# Lengths to try for dimensions that a model leaves open.
_LENGTHS = (8, 32, 64)


def first_difference(model, copy):
    """Runs a model and its copy on made-up data.

    The copy is run layer by layer, with nested models expanded, as it will be
    trained.

    Args:
        model: `keras.layers.Layer`.
        copy: its copy, with the same weights.

    Returns:
        The first layer that does not compute the same, bit for bit, in
        inference mode; `None` if all do, or if the model cannot be run on
        made-up data.
    """
    if not is_graph(model) or not is_graph(copy):
        return None
    # Running the models would change TensorFlow variables.
    before = [
        (variable, variable.numpy()) for layer in [
            *private.sublayers(model), *private.sublayers(copy)
        ] for variable in layer_variables.tf_variables(layer)
    ]
    try:
        return _first_layer_that_differs(model, copy)
    finally:
        for variable, value in before:
            variable.assign(value)


def _first_layer_that_differs(model, copy):
    plain = keras.Model(model.inputs, model.outputs)
    for length in _LENGTHS:
        data = [made_up(tensor, length) for tensor in plain.inputs]
        if any(tensor is None for tensor in data):
            return None
        try:
            with keras.StatelessScope():
                expected = keras.tree.flatten(plain(data, training=False))
        except Exception as error:
            _logger.debug("Cannot be run on made-up data: %s", error)
            continue
        calls = Calls(keras.Model(copy.inputs, copy.outputs))
        outputs = _run_all(calls, data)
        if outputs is not None and all(map(_equal, expected, outputs)):
            return None
        with keras.StatelessScope():
            again = keras.tree.flatten(plain(data, training=False))
        if not all(map(_equal, expected, again)):
            return None  # Random numbers: there is nothing to compare.
        return _first_difference(Calls(plain), calls, data) or model
    return None


def _run_all(calls, data):
    """Runs calls on data; returns outputs, or `None` if they do not fit."""
    values = {id(t): value for t, value in zip(calls.inputs, data)}
    for node in calls.nodes:
        try:
            made = _run(node, values)
        except Exception as error:
            _logger.debug("Cannot be run where the original can: %s", error)
            return None
        values |= {id(t): value for t, value in zip(node.outputs, made)}
    return [values[id(tensor)] for tensor in calls.outputs]


def _first_difference(calls, others, data):
    """Returns the first operation whose results differ for equal inputs."""
    values = {id(t): value for t, value in zip(calls.inputs, data)}
    for node, other in zip(calls.nodes, others.nodes):
        made = _run(node, values)
        given = {
            id(b): values[id(a)]
            for a, b in zip(node.input_tensors, other.input_tensors)
        }
        if not all(map(_equal, made, _run(other, given))):
            return node.operation
        values |= {id(t): value for t, value in zip(node.outputs, made)}
    return None


def _run(node, values):
    args, kwargs = node.arguments.fill_in(values)
    if isinstance(node.operation, keras.layers.Layer):
        kwargs = {**kwargs, "training": False}
    with keras.StatelessScope():
        return keras.tree.flatten(node.operation(*args, **kwargs))


def _equal(a, b):
    if not isinstance(a, tf.Tensor):  # Sparse or ragged.
        return True
    a, b = a.numpy(), b.numpy()
    if a.dtype.kind in "fc" or a.dtype.kind == "V":
        return a.tobytes() == b.tobytes()
    return np.array_equal(a, b)


def made_up(tensor, length):
    """Makes up a small batch of data for an input.

    Args:
        tensor: `keras.KerasTensor`.
        length: int, for dimensions of unknown length.

    Returns:
        Tensor, or `None` if no data can be made up for it.
    """
    if tensor.sparse or tensor.ragged:
        return None
    batch, *rest = tensor.shape if len(tensor.shape) else (None,)
    shape = [batch or 1, *(d or length for d in rest)]
    dtype = tf.as_dtype(tensor.dtype)
    rng = np.random.default_rng(0)
    if dtype == tf.string:
        return tf.fill(shape, "")
    if dtype.is_floating:
        return tf.cast(rng.normal(size=shape), dtype)
    # Valid as tokens, and as a mask.
    return tf.cast(
        rng.integers(0, 2, shape) | (np.arange(shape[-1]) % 2 == 0), dtype
    )
