"""Copies of Keras models: structure, weights, state and flags."""

import logging
import tempfile

import keras
import numpy as np
import tensorflow as tf

from fr_keras import holdings, placement
from fr_keras.nested import Calls, in_order, input_like, is_graph, overrides

_logger = logging.getLogger("fr_keras")

# Lengths to try for dimensions that a model leaves open.
_LENGTHS = (8, 32, 64)


# What Keras notes of every layer's life: not what a class computes with.
_HISTORY = frozenset([*vars(keras.layers.Layer()), *vars(keras.Model())])


class CannotCopy(ValueError):
    """A model or layer of which Keras can make no second one.

    Attributes:
        layer: `keras.layers.Layer`, or `None` if it is not one layer.
    """

    def __init__(self, message, layer=None):
        super().__init__(message)
        self.layer = layer


def copy_model(model):
    """Copies a Keras model with its weights, state and flags.

    The copy is made in the memory of the host, so that a network need not fit
    on one accelerator. Weights go from layer to layer by their place in the
    graph, whatever the order is in which layers were made; `trainable`,
    regularizers, constraints and names of single variables come along. Then
    both are run on the same made-up data, and must give the same outputs, bit
    for bit.

    Args:
        model: `keras.Model` or `keras.layers.Layer`.

    Returns:
        Tuple `(copy, kept)`: the same with variables of its own on CPU:0, and
        a dict from layers that cannot be copied, and are part of the copy
        themselves, to the reasons, strings. Of a Functional model whose class
        cannot be made again from its configuration, the copy is a plain
        Functional model.

    Raises:
        CannotCopy: if the model is no graph, and cannot be copied.
    """
    if not is_graph(model):
        return _checked(model, _copy_built_layer), {}
    if _has_own_config(model):
        try:
            return _checked(model, _copy_layer), {}
        except Exception as error:
            # Many a class cannot be made again, but consists of layers that
            # can.
            _logger.debug("%r is copied by its graph: %s", model, error)
    kept = {}
    while True:
        try:
            return _checked(model, lambda m: _copy_graph(m, kept=kept)), kept
        except CannotCopy as error:
            if error.layer is None or error.layer in kept:
                raise
            for layer in _with_same_variables(model, error.layer):
                kept.setdefault(layer, str(error))


def _with_same_variables(model, layer):
    """The layers of a graph that share variables with one of them."""
    theirs = {id(variable) for variable in holdings.variables(layer)}
    nodes = Calls(keras.Model(model.inputs, model.outputs)).nodes
    operations = {id(node.operation): node.operation for node in nodes}
    return [layer] + [
        operation for operation in operations.values()
        if operation is not layer and theirs & {
            id(variable) for variable in holdings.variables(operation)
        }
    ]


def _checked(model, make):
    """A copy with the state of the model, seen to compute the same."""
    with tf.device("CPU:0"):
        try:
            copy = make(model)
            Pairs(model, copy).copy_state()
        except CannotCopy:
            raise
        except Exception as error:
            raise CannotCopy(
                f"Model '{model.name}' must be one that Keras can copy from "
                "its configuration: give its class `get_config`. "
                f"Received: model={model!r} ({_in_one_line(error)})"
            ) from error
        differs = first_difference(model, copy)
        if differs is not None:
            raise CannotCopy(
                f"made again from its configuration, '{differs.name}' "
                "computes otherwise", differs,
            )
    return copy


def _has_own_config(model):
    """Whether a graph's class says itself how it is made again."""
    return bool(overrides(model, ["get_config"]))


def _copy_graph(model, copies=None, kept=()):
    """Copies a Functional or Sequential model, layer by layer.

    Args:
        model: `keras.Model`.
        copies: dict from the ids of layers to their copies, those so far.
        kept: layers that are to be part of the copy themselves.

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
    for node in in_order(model):
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
        return operation  # Without state: as good as new.
    try:
        if is_graph(operation):
            if not _has_own_config(operation):
                return _copy_graph(operation, copies)
            try:
                return _copy_layer(operation)
            except Exception:
                if overrides(operation, ["call"]):
                    raise
                return _copy_graph(operation, copies)
        return _copy_layer(operation)
    except CannotCopy:
        raise
    except Exception as error:
        raise CannotCopy(
            f"a {type(operation).__name__} cannot be made again from its "
            f"configuration ({_in_one_line(error)})", operation,
        ) from error


def _copy_layer(layer):
    """A fresh layer of the same class and configuration."""
    config = layer.get_config()
    if isinstance(layer, keras.layers.Lambda):
        # Its function is at hand: no need to deserialize code.
        config["function"] = layer.function
        return layer.__class__(**config)
    return layer.__class__.from_config(config)


def _copy_built_layer(layer):
    """The same, with its variables; in a graph, calls make them."""
    copy = _copy_layer(layer)
    if layer.built and not copy.built:
        copy.build_from_config(layer.get_build_config())
    return copy


class Pairs:
    """Layers and variables of a model beside those of its copy.

    Args:
        source: `keras.layers.Layer`.
        target: `keras.layers.Layer`, its copy.

    Raises:
        ValueError: if the two are not alike.
    """

    def __init__(self, source, target):
        self._source, self._target = source, target
        self.layers = []
        self.variables = []
        self._of = {}
        self._seen = set()
        self._add(source, target)

    def _add(self, source, target):
        """Pairs two layers, if that is not done yet."""
        if (id(source), id(target)) in self._seen:
            return
        self._seen.add((id(source), id(target)))
        if (
            is_graph(source) and is_graph(target)
            and not overrides(source, ["call"])
        ):
            self._add_graph(source, target)
        else:
            self._add_layer(source, target)

    def _add_graph(self, source, target):
        """By the place in the graph, not by the order of making."""
        nodes, others = (
            in_order(getattr(m, "_functional", None) or m)
            for m in (source, target)
        )
        if len(nodes) != len(others):
            raise ValueError(
                f"model '{source.name}' has {len(nodes)} calls of layers, its "
                f"copy {len(others)}"
            )
        self.layers.append((source, target))
        for node, other in zip(nodes, others):
            if not isinstance(node.operation, keras.layers.Layer):
                continue
            try:
                self._add(node.operation, other.operation)
            except CannotCopy:
                raise
            except ValueError as error:
                raise CannotCopy(str(error), node.operation) from error
        # What is in no call, but belongs to the model all the same.
        if type(source) is type(target):
            self._add_own(source, target)

    def _add_layer(self, source, target):
        if type(source) is not type(target):
            raise ValueError(
                f"layer '{source.name}' is a {type(source).__name__}, its "
                f"copy a {type(target).__name__}"
            )
        for name in vars(source).keys() & vars(target).keys() - _HISTORY:
            a, b = vars(source)[name], vars(target)[name]
            if isinstance(a, (bool, int, float, str)) and a != b:
                raise ValueError(
                    f"attribute `{name}` of layer '{source.name}' is {a!r}, "
                    f"made again from its configuration {b!r}"
                )
        self.layers.append((source, target))
        self._add_own(source, target)

    def _add_own(self, source, target):
        for name in (
            "_trainable_variables", "_non_trainable_variables"
        ):
            self._add_variables(
                source, getattr(source, name), getattr(target, name)
            )
        self._add_variables(
            source,
            holdings.untracked_variables(source),
            holdings.untracked_variables(target),
        )
        for a, b in zip(source._metrics, target._metrics):
            self._add_variables(source, a.variables, b.variables)
        # (A dropout whose rate is zero now has no random numbers any more.)
        for a, b in zip(source._seed_generators, target._seed_generators):
            self._add_variables(source, [a.state], [b.state])
        layers, others = (
            [layer for layer in of._layers
             if not isinstance(layer, keras.layers.InputLayer)]
            for of in (source, target)
        )
        if is_graph(source) and is_graph(target):
            # Those in the graph were paired by their place in it.
            known = {a for a, _ in self._seen}, {b for _, b in self._seen}
            layers = [x for x in layers if id(x) not in known[0]]
            others = [x for x in others if id(x) not in known[1]]
        if len(layers) != len(others):
            raise ValueError(
                f"layer '{source.name}' has {len(layers)} layers, its copy "
                f"{len(others)}"
            )
        for a, b in zip(layers, others):
            self._add(a, b)

    def _add_variables(self, layer, variables, others):
        if len(variables) != len(others):
            raise ValueError(
                f"layer '{layer.name}' has {len(variables)} variables, its "
                f"copy {len(others)}"
            )
        for a, b in zip(variables, others):
            if (tuple(a.shape), a.dtype) != (tuple(b.shape), b.dtype):
                raise ValueError(
                    f"variable '{a.path}' has shape {tuple(a.shape)} and dtype "
                    f"{a.dtype}, that of the copy {tuple(b.shape)} and "
                    f"{b.dtype}"
                )
            # What is shared must be shared in the copy, and nothing else.
            forward = self._of.setdefault(("source", id(a)), id(b))
            backward = self._of.setdefault(("target", id(b)), id(a))
            if (forward, backward) != (id(b), id(a)):
                raise ValueError(
                    f"variable '{a.path}' is shared by several layers, but "
                    "not by those of the copy"
                )
            self.variables.append((a, b))

    def copy_state(self):
        """Gives the copy the weights, state and flags of the original."""
        for a, b in self.variables:
            b.assign(a.value)
            b.trainable = a.trainable
            b.regularizer = a.regularizer
            b.constraint = a.constraint
            b.overwrite_with_gradient = a.overwrite_with_gradient
            placement.name_like(a, b)
        for a, b in self.layers:
            for theirs, ours in zip(
                holdings.tf_variables(a), holdings.tf_variables(b)
            ):
                ours.assign(theirs)
            b._trainable = a._trainable  # Not that of all layers in it.
            # That of a graph is the policy of when it was made.
            b._dtype_policy = a._dtype_policy
            # What preprocessing layers learned in `adapt` is not all in
            # variables.
            if hasattr(a, "get_vocabulary") and a.vocabulary_size() > 1:
                with tempfile.TemporaryDirectory() as folder:
                    a.save_assets(folder)
                    b.load_assets(folder)
            elif hasattr(b, "finalize_state"):
                b.finalize_state()


def copy_values(source, target):
    """Gives the variables of one model those of another that is like it.

    Args:
        source: `keras.layers.Layer`.
        target: `keras.layers.Layer` of the same make; layers are matched by
            their place in the graph.

    Raises:
        ValueError: if the two are not alike.
    """
    for a, b in Pairs(source, target).variables:
        b.assign(a.value)


def first_difference(model, copy):
    """Runs a model and its copy on made-up data.

    The copy is run layer by layer, nested models dissolved, as it will be
    trained.

    Args:
        model: `keras.layers.Layer`.
        copy: its copy, with the same weights.

    Returns:
        The first layer that does not compute the same, bit for bit, in
        inference mode; `None` if all do, or if there is nothing that the model
        could be run on.
    """
    if not is_graph(model) or not is_graph(copy):
        return None
    # State of TensorFlow's own would move.
    before = [
        (variable, variable.numpy()) for layer in [
            *model._flatten_layers(), *copy._flatten_layers()
        ] for variable in holdings.tf_variables(layer)
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
        values = {id(t): value for t, value in zip(calls.inputs, data)}
        for node in calls.nodes:
            made = _run(node, values)
            values |= {id(t): value for t, value in zip(node.outputs, made)}
        outputs = [values[id(tensor)] for tensor in calls.outputs]
        if all(map(_equal, expected, outputs)):
            return None
        with keras.StatelessScope():
            again = keras.tree.flatten(plain(data, training=False))
        if not all(map(_equal, expected, again)):
            return None  # Random numbers: there is nothing to compare.
        return _first_difference(Calls(plain), calls, data) or model
    return None


def _first_difference(calls, others, data):
    """The first operation that makes something else of its inputs."""
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
    """A small batch of data for an input.

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


def _in_one_line(error):
    return " ".join(str(error).split())[:300]
