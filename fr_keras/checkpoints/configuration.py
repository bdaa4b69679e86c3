"""How a training was configured: its network, its optimizer, its method.

Descriptions are lists and dicts for JSON. They leave out what a training that
goes on may do otherwise: names, which depend on what else was made in a
process, and what only says how variables begin.
"""

import hashlib
import inspect
import json
import math

import keras
import numpy as np
from keras.src.models.functional import Functional

from fr_keras.algorithms.base import Algorithm

_LEFT_OUT = {
    "batch_input_shape", "batch_shape", "build_config", "module", "name",
    "registered_name", "seed", "shared_object_id", "trainable",
    # Of models in layers, which name theirs; the layers are described.
    "inbound_nodes", "input_layers", "output_layers",
}
# What only matters while a network is trained.
_OF_TRAINING = {
    "dropout", "dtype", "momentum", "rate", "recurrent_dropout", "stddev"
}
WEIGHTS_ALONE = "its weights alone can be taken over, by `restore_weights`"

# Longer ones are described by a checksum.
_LONGEST = 500


def of_training(model):
    """Describes a training, for `check`.

    Args:
        model: algorithm.

    Returns:
        Dict for JSON; the network is missing as long as it is not built.
    """
    described = {
        "optimizer": of_optimizer(model.optimizer.shared),
        "settings": _settings(model),
    }
    if model.built:
        described["network"] = of_network(model.parts)
    return described


def of_optimizer(optimizer):
    """Describes an optimizer: its class and configuration.

    A learning rate that is a number is state, which callbacks set; a schedule
    is configuration.

    Args:
        optimizer: `keras.optimizers.Optimizer`.

    Returns:
        List for JSON.
    """
    described = _of_object(optimizer)
    excluded = getattr(optimizer, "_exclude_from_weight_decay_pattern", None)
    if excluded is not None:
        described.append(sorted(excluded.pattern.split("|")))
    return _without_rates(described)


def of_network(parts):
    """Describes a network: the calls of its layers, and what goes into each.

    Where it is cut does not matter, nor whether models are called in others.

    Args:
        parts: list of `keras.layers.Layer`, the output of one being the input
            of the next.

    Returns:
        List for JSON.
    """
    calls = _Calls()
    inputs = _Given("data")
    for part in parts:
        inputs = calls.follow(part, inputs)
    return calls.described


def check(mine, manifest):
    """Checks that a training is configured as another was.

    Args:
        mine: as `of_training` returned it.
        manifest: dict, with what it returned for the other as the entry
            "configuration".

    Raises:
        ValueError: in one line, what differs.
    """
    for name, what in (
        ("optimizer", "optimizer"), ("settings", "settings of the algorithm"),
        ("network", "network"),
    ):
        if name in mine:
            _check_equal(
                what, mine[name], manifest["configuration"][name], manifest
            )


def check_network(model, manifest):
    """Checks that a network computes what another does, given its weights.

    What only matters in training, like the rate of dropout, may differ.

    Args:
        model: algorithm that is built.
        manifest: as for `check`.

    Raises:
        ValueError: in one line, what differs.
    """
    _check_equal("network", *map(_without_training, (
        of_network(model.parts), manifest["configuration"]["network"]
    )), manifest)


def _without_rates(value):
    """A description of an optimizer without the rates that are numbers."""
    return _pruned(value, lambda key, entry: not (
        key == "learning_rate" and isinstance(entry, (int, float))
    ))


def _without_training(value):
    """A description of a network without what matters in training only."""
    return _pruned(value, lambda key, entry: not (
        key in _OF_TRAINING or key.endswith(("_regularizer", "_constraint"))
    ))


def _pruned(value, stays):
    if isinstance(value, list):
        return [_pruned(entry, stays) for entry in value]
    if not isinstance(value, dict):
        return value
    return {
        key: _pruned(entry, stays) for key, entry in value.items()
        if stays(key, entry)
    }


def _check_equal(what, mine, theirs, manifest):
    # Another version of Keras may have arguments that the other does not.
    is_same_keras = manifest["versions"]["keras"] == keras.__version__
    difference = _first_difference(
        json.loads(json.dumps(mine)), theirs, is_same_keras
    )
    if difference is not None:
        where, mine, theirs = difference
        if where and not where.endswith("="):
            where += " "
        hint = "" if what == "network" else f"; {WEIGHTS_ALONE}"
        raise ValueError(
            f"It is of another {what}, which has {where}{theirs!r:.100}{hint}. "
            f"Received: {where}{mine!r:.100}"
        )


def _first_difference(mine, theirs, all_keys, where=""):
    """The first place where two descriptions differ, or `None`.

    Args:
        mine: value of JSON.
        theirs: the same.
        all_keys: bool, whether to compare keys that only one of them has.
        where: str, what comes before a value in messages.
    """
    if isinstance(mine, dict) and isinstance(theirs, dict):
        for key in [*mine, *theirs]:
            if not (all_keys or key in mine and key in theirs):
                continue
            inside = where if key in ("config", "layer") else (
                f"{where.partition(' with ')[0]} with {key}=" if where
                else f"{key}="
            )
            found = _first_difference(
                mine.get(key), theirs.get(key), all_keys, inside
            )
            if found:
                return found
        return None
    if isinstance(mine, list) and isinstance(theirs, list):
        if mine and mine[:1] == theirs[:1] and isinstance(mine[0], str):
            where = mine[0]  # A class.
        for a, b in zip(mine, theirs):
            found = _first_difference(a, b, all_keys, where)
            if found:
                return found
        if len(mine) == len(theirs):
            return None
        length = min(len(mine), len(theirs))
        return where, *(
            more[length:length + 1] or "no more" for more in (mine, theirs)
        )
    return None if mine == theirs else (where, mine, theirs)


class _Given:
    """Tensors that are named by where they come from.

    Args:
        source: "data", or the number of a call.
    """

    def __init__(self, source):
        self._source = source

    def __getitem__(self, i):
        return _Made(None, [self._source, i])


class _Made:
    """Where a tensor comes from.

    Attributes:
        call: tuple of the scope and the node that makes it, or `None`.
        reference: list for JSON; of a call, the number of its output.
    """

    def __init__(self, call, reference):
        self.call = call
        self.reference = reference


class _Scope:
    """A model that is called: its own tensors, and what they stand for.

    Args:
        model: Sequential or Functional model.
        inputs: callable on the number of an input, which returns `_Made`.
        constants: list, what it is given beside tensors, like `training`.

    Attributes:
        constants: the same.
    """

    def __init__(self, model, inputs, constants=()):
        self.constants = list(constants)
        self._inputs = {id(t): i for i, t in enumerate(model.inputs)}
        self._stands_for = inputs
        self._inner = {}

    def made(self, tensor):
        """Where a tensor of the model comes from, `_Made`."""
        if id(tensor) in self._inputs:
            return self._stands_for(self._inputs[id(tensor)])
        operation, node_index, i = tensor._keras_history
        node = operation._inbound_nodes[node_index]
        if not _is_graph(operation):
            return _Made((self, node), i)
        if id(node) not in self._inner:
            self._inner[id(node)] = _Scope(
                operation, lambda j: self.made(node.input_tensors[j]),
                self.constants + _constants(node),
            )
        return self._inner[id(node)].made(operation.outputs[i])


class _Calls:
    """Describes calls in an order that depends on what they compute only."""

    def __init__(self):
        self.described = []
        self._numbers = {}
        self._first = {}
        self._scopes = []  # Kept, as they are known by their ids.

    def follow(self, part, inputs):
        """Adds the calls of one part; returns what its outputs are."""
        if not _is_graph(part):
            taken = inputs if isinstance(inputs, list) else [inputs[0]]
            self._add(part, [made.reference for made in taken], [])
            return _Given(len(self.described) - 1)
        scope = _Scope(part, lambda i: inputs[i])
        self._scopes.append(scope)
        outputs = [scope.made(tensor) for tensor in part.outputs]
        for output in outputs:
            self._reach(output)
        return [_Made(None, self._reference(made)) for made in outputs]

    def _reach(self, made):
        """Adds the calls that a tensor needs, each after what it needs."""
        waiting = [made]
        while waiting:
            call = waiting[-1].call
            if call is None or self._key(call) in self._numbers:
                waiting.pop()
                continue
            scope, node = call
            needed = [scope.made(tensor) for tensor in node.input_tensors]
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

    def _reference(self, made):
        if made.call is None:
            return made.reference
        return [self._numbers[self._key(made.call)], made.reference]

    def _key(self, call):
        scope, node = call
        return id(scope), id(node)


def of_layer(layer):
    """Describes a layer: its class, its configuration, the layers in it.

    Args:
        layer: `keras.layers.Layer`, or another operation of Keras.

    Returns:
        List for JSON. Layers whose `get_config` does not work have no
        configuration.
    """
    if _is_graph(layer):
        return [type(layer).__name__, of_network([layer])]
    described = _of_object(layer)
    if isinstance(layer, keras.layers.Lambda):
        described.append(_of_function(layer.function))
    elif isinstance(layer, keras.layers.Layer):
        described += [
            of_layer(inner) for inner in layer._flatten_layers(
                recursive=False, include_self=False
            )
        ]
    return described


def _is_graph(layer):
    """Whether a layer is a model that is nothing but the layers in it."""
    if isinstance(layer, keras.Sequential):
        return (
            type(layer).call is keras.Sequential.call
            and layer._functional is not None
        )
    return (
        isinstance(layer, Functional) and type(layer).call is Functional.call
    )


def _constants(node):
    """What a call was given beside tensors, a list for JSON."""

    def is_constant(value):
        return not all(
            leaf is None or isinstance(leaf, keras.KerasTensor)
            for leaf in keras.tree.flatten(value)
        )

    def described(value):
        return _plain(keras.tree.map_structure(
            lambda leaf: "tensor" if isinstance(leaf, keras.KerasTensor)
            else leaf,
            value,
        ))

    arguments = node.arguments
    return [described(a) for a in arguments.args if is_constant(a)] + [
        [key, described(a)] for key, a in arguments.kwargs.items()
        if is_constant(a)
    ]


def _settings(model):
    """The arguments of an algorithm that others do not have."""
    names = inspect.signature(type(model).__init__).parameters.keys()
    common = inspect.signature(Algorithm.__init__).parameters.keys()
    return {
        name: _plain(getattr(model, name))
        for name in sorted(names - common) if hasattr(model, name)
    }


def _of_object(thing):
    """The class of something and its configuration, if it tells it."""
    try:
        config = thing.get_config()
    except Exception:  # Users' classes may raise anything.
        return [type(thing).__name__]
    return [type(thing).__name__, {"config": _plain(config)}]


def _of_function(function):
    """A function by its name, and by those that it uses."""
    code = getattr(function, "__code__", None)
    return [
        getattr(function, "__name__", type(function).__name__),
        *(code.co_names if code else ()),
    ]


def _plain(value):
    """A value of a configuration for JSON, without what is left out."""
    value = _simplified(value)
    text = json.dumps(value)
    is_long = len(text) > _LONGEST and not isinstance(value, dict)
    return hashlib.sha256(text.encode()).hexdigest() if is_long else value


def _simplified(value):
    if isinstance(value, float) and math.isnan(value):
        return "nan"  # Equal to itself.
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, dict):
        kind = str(value.get("class_name"))
        if kind == "__lambda__":
            return "lambda"  # Its code depends on where it stands.
        if "DTypePolicy" in kind:
            return json.dumps(value.get("config"), default=str)
        return {
            str(key): _plain(entry) for key, entry in value.items()
            if key not in _LEFT_OUT and not str(key).endswith("_initializer")
        }
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray) or hasattr(value, "numpy"):
        return np.asarray(value).tolist()
    if isinstance(value, keras.dtype_policies.DTypePolicy):
        return value.name
    if hasattr(value, "get_config"):
        return _of_object(value)
    if callable(value):
        return _of_function(value)
    return type(value).__name__
