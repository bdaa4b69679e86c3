"""Copies of Keras models: structure, weights, state and flags."""

import logging

import keras
import tensorflow as tf

from fr_keras.cutting.pairs import CannotCopy, Pairs
from fr_keras.cutting.sameness import first_difference
from fr_keras.engine import layer_variables, private
from fr_keras.engine.nested import (
    Calls,
    depth_first_order,
    input_like,
    is_graph,
    overrides,
)

_logger = logging.getLogger("fr_keras")


def copy_model(model):
    """Copies a Keras model with its weights, state and flags.

    The copy is created in host memory, so that a network need not fit on one
    accelerator. Weights are copied layer by layer, by their place in the graph,
    whatever the order in which layers were created; `trainable`, regularizers,
    constraints and names of single variables are copied too. Then both are run
    on the same made-up data, and must give the same outputs, bit for bit.

    Args:
        model: `keras.Model` or `keras.layers.Layer`.

    Returns:
        Tuple `(copy, kept, lost)`: the copy, with its own variables on CPU:0; a
        dict from layers that cannot be copied, and are part of the copy
        themselves, to the reasons, strings; and `None`, or the reason why
        the class of a Functional model cannot be recreated from its
        configuration: the copy is then a plain Functional model.

    Raises:
        CannotCopy: if the model is not a graph, and cannot be copied.
    """
    if not is_graph(model):
        return _checked(model, _copy_built_layer), {}, None
    lost = None
    if _has_own_config(model):
        try:
            return _checked(model, _copy_layer), {}, None
        except Exception as error:
            # Many classes cannot be recreated, but consist of layers that can.
            lost = _in_one_line(error.__cause__ or error)
    kept = {}
    while True:
        try:
            copy = _checked(model, lambda m: _copy_graph(m, kept=kept))
            return copy, kept, lost
        except CannotCopy as error:
            if error.layer is None or error.layer in kept:
                raise
            for layer in _with_same_variables(model, error.layer):
                kept.setdefault(layer, str(error))


def _with_same_variables(model, layer):
    """Returns the layers of a graph that share variables with a given one."""
    theirs = {id(variable) for variable in layer_variables.all_variables(layer)}
    nodes = Calls(keras.Model(model.inputs, model.outputs)).nodes
    operations = {id(node.operation): node.operation for node in nodes}
    return [layer] + [
        operation for operation in operations.values()
        if operation is not layer and theirs & {
            id(variable)
            for variable in layer_variables.all_variables(operation)
        }
    ]


def _checked(model, make):
    """Copies a model with its state, and checks that both compute the same."""
    with tf.device("CPU:0"):
        try:
            copy = make(model)
            Pairs(model, copy).copy_state()
        except CannotCopy:
            raise
        except Exception as error:
            raise CannotCopy(
                f"Keras must be able to re-create model '{model.name}' from "
                f"its configuration ({_in_one_line(error)}). Implement "
                "`get_config` in its class, or pass `copy=False` to train the "
                f"model itself. Received: model={model!r}"
            ) from error
        differs = first_difference(model, copy)
        if differs is not None:
            raise CannotCopy(
                f"re-created from its configuration, '{differs.name}' computes "
                "something else", differs,
            )
    return copy


def _has_own_config(model):
    """Whether a graph's class defines its own configuration."""
    return bool(overrides(model, ["get_config"]))


def _copy_graph(model, copies=None, kept=()):
    """Copies a Functional or Sequential model, layer by layer.

    Args:
        model: `keras.Model`.
        copies: dict from the ids of layers to their copies so far.
        kept: layers that become part of the copy themselves.

    Returns:
        `keras.Model`.
    """
    if copies is None:
        copies = {id(layer): layer for layer in kept}

    def copy_of(operation):
        if id(operation) not in copies:
            copies[id(operation)] = _copy_operation(operation, copies)
        return copies[id(operation)]

    if isinstance(model, keras.Sequential):
        return keras.Sequential(
            [input_like(model.inputs[0]), *map(copy_of, model.layers)],
            name=model.name,
        )
    inputs = [input_like(tensor) for tensor in model.inputs]
    tensors = {id(t): new for t, new in zip(model.inputs, inputs)}
    for node in depth_first_order(model):
        args, kwargs = node.arguments.fill_in(tensors)
        made = keras.tree.flatten(copy_of(node.operation)(*args, **kwargs))
        tensors |= {id(t): new for t, new in zip(node.outputs, made)}
    return keras.Model(
        keras.tree.pack_sequence_as(model.input, inputs),
        keras.tree.map_structure(lambda t: tensors[id(t)], model.output),
        name=model.name,
    )


def _copy_operation(operation, copies):
    if not isinstance(operation, keras.layers.Layer):
        return operation  # Stateless: as good as new.
    try:
        if is_graph(operation):
            return _copy_nested(operation, copies)
        return _copy_layer(operation)
    except CannotCopy:
        raise
    except Exception as error:
        raise CannotCopy(
            f"{type(operation).__name__} cannot be re-created from its "
            f"configuration ({_in_one_line(error)})", operation,
        ) from error


def _copy_nested(model, copies):
    """Copies a model that is called in another.

    By its class, if none of its layers has a copy yet and the result is alike;
    otherwise by its graph.
    """
    has_call = overrides(model, ["call"])
    is_new = not any(id(layer) in copies for layer in private.sublayers(model))
    if _has_own_config(model) and (is_new or has_call):
        try:
            copy = _copy_layer(model)
            pairs = Pairs(model, copy)
        except Exception as error:
            if has_call:
                raise
            _logger.debug("%r is copied by its graph: %s", model, error)
        else:
            # The layers may be called outside of the model, too.
            copies.update((id(a), b) for a, b in pairs.layers)
            return copy
    return _copy_graph(model, copies)


def _copy_layer(layer):
    """Creates a layer of the same class and configuration."""
    config = layer.get_config()
    if isinstance(layer, keras.layers.Lambda):
        # Its function is available: no need to deserialize code.
        config["function"] = layer.function
        return layer.__class__(**config)
    return layer.__class__.from_config(config)


def _copy_built_layer(layer):
    """Like `_copy_layer`, with variables; in a graph, calls create them."""
    copy = _copy_layer(layer)
    if layer.built and not copy.built:
        copy.build_from_config(layer.get_build_config())
    return copy


def _in_one_line(error):
    return " ".join(str(error).split())[:300]
