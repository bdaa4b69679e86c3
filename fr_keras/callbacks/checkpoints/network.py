"""Descriptions of networks, for JSON: the calls of their layers."""

import keras

from fr_keras.callbacks.checkpoints.descriptions import (
    of_function,
    of_object,
    plain,
)
from fr_keras.engine import private


def of_network(parts):
    """Describes a network: the calls of its layers and their inputs.

    Neither the split nor the nesting of models matters.

    Args:
        parts: list of `keras.layers.Layer`, each taking the output of the one
            before.

    Returns:
        List for JSON.
    """
    calls = _Calls()
    inputs = _Outputs("data")
    for part in parts:
        inputs = calls.follow(part, inputs)
    return calls.described


def of_layer(layer):
    """Describes a layer: its class, configuration and inner layers.

    Args:
        layer: `keras.layers.Layer`, or another Keras operation.

    Returns:
        List for JSON, without a configuration for layers whose `get_config`
        fails.
    """
    if _is_graph(layer):
        return [type(layer).__name__, of_network([layer])]
    described = of_object(layer)
    if isinstance(layer, keras.layers.Lambda):
        described.append(of_function(layer.function))
    elif isinstance(layer, keras.layers.Layer):
        described += [
            of_layer(inner) for inner in private.sublayers(
                layer, include_self=False, recursive=False
            )
        ]
    return described


class _Outputs:
    """Tensors named by their origin.

    Args:
        source: "data", or the number of a call.
    """

    def __init__(self, source):
        self._source = source

    def __getitem__(self, i):
        return _Origin(None, [self._source, i])


class _Origin:
    """The origin of a tensor.

    Attributes:
        call: tuple of the scope and the node that creates it, or `None`.
        reference: list for JSON; for a call, the number of its output.
    """

    def __init__(self, call, reference):
        self.call = call
        self.reference = reference


class _Scope:
    """A call of a model, which maps the model's own tensors to their origins.

    Args:
        model: Sequential or Functional model.
        inputs: callable on the number of an input, which returns `_Origin`.
        constants: list of its arguments besides tensors, such as `training`.

    Attributes:
        constants: the same.
    """

    def __init__(self, model, inputs, constants=()):
        self.constants = list(constants)
        self._inputs = {id(t): i for i, t in enumerate(model.inputs)}
        self._input_origins = inputs
        self._inner = {}

    def origin(self, tensor):
        """Returns the origin of a tensor of the model, `_Origin`."""
        if id(tensor) in self._inputs:
            return self._input_origins(self._inputs[id(tensor)])
        operation, node_index, i = private.history_of(tensor)
        node = private.calls_of(operation)[node_index]
        if not _is_graph(operation):
            return _Origin((self, node), i)
        if id(node) not in self._inner:
            self._inner[id(node)] = _Scope(
                operation, lambda j: self.origin(node.input_tensors[j]),
                self.constants + _constants(node),
            )
        return self._inner[id(node)].origin(operation.outputs[i])


class _Calls:
    """Describes calls in an order that depends only on the computation."""

    def __init__(self):
        self.described = []
        self._numbers = {}
        self._first = {}
        self._scopes = []  # Kept, as they are identified by their ids.

    def follow(self, part, inputs):
        """Adds the calls of one part; returns its outputs."""
        if not _is_graph(part):
            taken = inputs if isinstance(inputs, list) else [inputs[0]]
            self._add(part, [origin.reference for origin in taken], [])
            return _Outputs(len(self.described) - 1)
        scope = _Scope(part, lambda i: inputs[i])
        self._scopes.append(scope)
        outputs = [scope.origin(tensor) for tensor in part.outputs]
        for output in outputs:
            self._add_dependencies(output)
        return [_Origin(None, self._reference(origin)) for origin in outputs]

    def _add_dependencies(self, origin):
        """Adds the calls that a tensor depends on, dependencies first."""
        waiting = [origin]
        while waiting:
            call = waiting[-1].call
            if call is None or self._key(call) in self._numbers:
                waiting.pop()
                continue
            scope, node = call
            needed = [scope.origin(tensor) for tensor in node.input_tensors]
            missing = [
                one for one in needed
                if one.call and self._key(one.call) not in self._numbers
            ]
            if missing:
                waiting.extend(reversed(missing))
                continue
            waiting.pop()
            self._numbers[self._key(call)] = len(self.described)
            self._add(
                node.operation, [self._reference(one) for one in needed],
                scope.constants + _constants(node),
            )

    def _add(self, layer, inputs, constants):
        known = self._first.setdefault(id(layer), len(self.described))
        is_new = known == len(self.described)
        self.described.append({
            "layer": of_layer(layer) if is_new else known,
            "inputs": inputs,
            **({"constants": constants} if constants else {}),
        })

    def _reference(self, origin):
        if origin.call is None:
            return origin.reference
        return [self._numbers[self._key(origin.call)], origin.reference]

    def _key(self, call):
        scope, node = call
        return id(scope), id(node)


def _is_graph(layer):
    """Whether a layer is a model that consists of its layers alone."""
    if isinstance(layer, keras.Sequential):
        return (
            type(layer).call is keras.Sequential.call
            and private.functional_of(layer) is not None
        )
    return (
        isinstance(layer, private.Functional)
        and type(layer).call is private.Functional.call
    )


def _constants(node):
    """The arguments of a call besides tensors, a list for JSON."""

    def is_constant(value):
        return not all(
            leaf is None or isinstance(leaf, keras.KerasTensor)
            for leaf in keras.tree.flatten(value)
        )

    def described(value):
        return plain(keras.tree.map_structure(
            lambda leaf: "tensor" if isinstance(leaf, keras.KerasTensor)
            else leaf,
            value,
        ))

    arguments = node.arguments
    return [described(a) for a in arguments.args if is_constant(a)] + [
        [key, described(a)] for key, a in arguments.kwargs.items()
        if is_constant(a)
    ]
