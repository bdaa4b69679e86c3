"""Description of modules: their contents, costs and crossing tensors."""

import dataclasses
import math

import keras
import tensorflow as tf

from fr_keras.cutting.costs import (
    Cost,
    as_cost,
    call_cost,
    estimated_cost,
    num_plays,
    total,
)
from fr_keras.cutting.graph import Graph, size
from fr_keras.engine import private
from fr_keras.engine.nested import is_graph
from fr_keras.engine.tied import SentWeights, SharedLayer, is_weight
from fr_keras.engine.wiring import find_passthrough


@dataclasses.dataclass(eq=False)
class Crossing:
    """A tensor sent from the module that makes it to those that use it.

    Attributes:
        shape: tuple of int or `None`, of one example; for tied weights, that
            of the weights.
        dtype: str.
        maker: int, the number of the module; 0 for an input of the network.
        is_weight: bool, whether these are tied weights, which are sent once
            per iteration regardless of the number of examples.
        users: list of ints, the numbers of the modules; K + 1 for an output of
            the network.
    """

    shape: tuple
    dtype: str
    maker: int
    is_weight: bool = False
    users: list = dataclasses.field(default_factory=list)

    @property
    def num_bytes(self):
        """Bytes per example, with unknown dimensions counted as 1.

        For tied weights, bytes per iteration.
        """
        return size(self.shape) * tf.as_dtype(self.dtype).size


@dataclasses.dataclass
class ModuleDescription:
    """Known facts about one module.

    Attributes:
        device: str, or `None` if unknown.
        layers: list of `keras.layers.Layer`, in order of execution.
        num_parameters: int, or `None` if the module is not built.
        num_trainable: int, how many of them are trainable, or `None`.
        passes: `fr_keras.cutting.costs.Cost`, or `None` if unknown.
        num_plays: int, forward passes in an iteration.
        copies: int, number of inputs that the module keeps.
        kept: list of `Crossing`s that it keeps of each input, or `None` if
            unknown.
    """

    device: str | None
    layers: list
    num_parameters: int | None
    num_trainable: int | None
    passes: Cost | None
    num_plays: int
    copies: int
    kept: list | None

    @property
    def cost(self):
        """Cost of one iteration, float, or `None` if unknown."""
        known = self.passes is not None
        return self.passes.of_iteration(self.num_plays) if known else None

    @property
    def kept_bytes(self):
        """Bytes per example of one kept input, or `None`.

        Tied weights, which are kept once per iteration, are left out.
        """
        known = self.kept is not None
        return sum(
            t.num_bytes for t in self.kept if not t.is_weight
        ) if known else None

    @property
    def kept_weight_bytes(self):
        """Bytes of the tied weights that are kept with each input."""
        return sum(t.num_bytes for t in self.kept or () if t.is_weight)


class Description:
    """Known facts about the modules of a network.

    Args:
        modules: list of modules, each taking the output of the one before, or
            an algorithm with such `modules`, and their `devices` and `costs`.
        costs: as for `fr_keras.partition`. A module that is not a Functional or
            Sequential model counts as one layer.

    Attributes:
        modules: list of K `ModuleDescription`s.
        boundaries: list of K + 1 lists of `Crossing`s: the network's input,
            the tensors from module k to k + 1, and the network's output.
            `None` where unknown.
        copies: list of lists of K device names, those of other pipelines.
        replays: bool, whether the modules keep inputs to replay them.
    """

    def __init__(self, modules, costs=None):
        # A plain list of modules is assumed to be for Features Replay.
        pipeline = getattr(modules, "pipeline_class", None)
        self.replays = pipeline is None or pipeline.replays
        devices = getattr(modules, "devices", None)
        pipelines = getattr(modules, "pipelines", ())
        self.copies = [pipeline.devices for pipeline in pipelines[1:]]
        costs = costs or getattr(modules, "costs", None)
        modules = _as_list(modules)
        devices = devices or [None] * len(modules)
        self.boundaries, kept = _follow(modules)
        self.modules = [
            ModuleDescription(
                device,
                _layers(module),
                *_count_parameters(module),
                _module_cost(module, costs),
                num_plays(k, len(modules), self.replays),
                len(modules) - k + 1 if self.replays else 0,
                kept[k - 1],
            )
            for k, (module, device) in enumerate(zip(modules, devices), 1)
        ]

    @property
    def shares(self):
        """Shares of the cost of an iteration, floats; `None` if unknown."""
        costs = [module.cost for module in self.modules]
        if None in costs or not sum(costs):
            return None
        return [cost / sum(costs) for cost in costs]

    @property
    def slowest(self):
        """Number of the module with the most expensive iteration."""
        return 1 + max(
            range(len(self.modules)), key=lambda k: self.modules[k].cost
        )

    @property
    def imbalance(self):
        """Cost of the slowest module over that of each in perfect balance.

        In perfect balance all modules take the same time T, so module k has
        the share T / cost_k of the network, where cost_k is the cost of an
        iteration of the whole network for module k.
        """
        perfect = 1 / sum(1 / cost for cost in self._costs_of_all)
        return self.modules[self.slowest - 1].cost / perfect

    @property
    def _costs_of_all(self):
        """Cost of an iteration of the whole network for each module."""
        whole = total(module.passes for module in self.modules)
        return [
            whole.of_iteration(module.num_plays) for module in self.modules
        ]

    @property
    def speedups(self):
        """Iterations in the time of one of back-propagation over the modules.

        Tuple of floats: the upper bounds with the modules on their devices, and
        in perfect balance with one device per module.
        """
        loads = {}
        for k, module in enumerate(self.modules):
            device = module.device or k
            loads[device] = loads.get(device, 0) + module.cost
        backprop = total(m.passes for m in self.modules).of_iteration(1)
        return (
            backprop / max(loads.values()),
            backprop * sum(1 / cost for cost in self._costs_of_all),
        )


def _as_list(modules):
    """Returns the modules of a list or an algorithm."""
    found = getattr(modules, "modules", modules)
    if (
        not isinstance(found, (list, tuple))
        or not found
        or not all(isinstance(m, keras.layers.Layer) for m in found)
    ):
        raise ValueError(
            "`modules` must be a list of Keras models or layers, such as "
            "`fr_keras.partition` returns, or a model made of modules, such as "
            f"`fr_keras.FeaturesReplay`. Received: {modules=}"
        )
    return list(found)


def _layers(module):
    """The layers of a module, in order of execution where that is known."""
    if is_graph(module):
        operations = [node.operation for node in Graph(module).nodes]
    else:
        operations = getattr(module, "layers", None) or [module]
    unique = {id(operation): operation for operation in operations}.values()
    return [
        operation.layer if isinstance(operation, SharedLayer) else operation
        for operation in unique
        if isinstance(operation, keras.layers.Layer)
        and not isinstance(operation, (keras.layers.InputLayer, SentWeights))
    ]


def _count_parameters(module):
    """Numbers of all and of trainable parameters, `None` before it is built."""
    if not module.built:
        return None, None
    return tuple(
        sum(math.prod(weight.shape) for weight in weights)
        for weights in (module.weights, module.trainable_weights)
    )


def _module_cost(module, costs):
    """`Cost` of a module, or `None` if unknown."""
    if is_graph(module) and module.name not in (costs or {}):
        return total(call_cost(node, costs) for node in Graph(module).nodes)
    outputs = _outputs(module)
    if costs is None:
        if outputs is None or not module.built:
            return None
        shapes = [tensor.shape for tensor in outputs]
        return as_cost(estimated_cost(module, shapes))
    return as_cost(costs[module.name]) if module.name in costs else None


def _inputs(module):
    """List of symbolic tensors, or `None` if the module was never called."""
    if is_graph(module):
        return list(module.inputs)
    calls = private.calls_of(module)
    return list(calls[-1].input_tensors) if calls else None


def _outputs(module):
    """Like `_inputs`, for the outputs."""
    if is_graph(module):
        return list(module.outputs)
    calls = private.calls_of(module)
    return list(calls[-1].output_tensors) if calls else None


def _follow(modules):
    """Follows all tensors through the modules.

    Args:
        modules: list of K modules.

    Returns:
        Tuple `(boundaries, kept)` of K + 1 and K lists of `Crossing`s.
    """
    boundaries, kept = [_entering(0, _inputs(modules[0]))], []
    for k, module in enumerate(modules, start=1):
        inputs, outputs = _inputs(module), _outputs(module)
        if boundaries[-1] is None:
            boundaries[-1] = _entering(k - 1, inputs)
        below, above = boundaries[-1], _entering(k, outputs)
        used, passed, queued = range(len(below or ())), {}, below
        if below and inputs and outputs and len(below) == len(inputs):
            sizes = len(inputs), len(outputs)
            used, passed = find_passthrough(module, *sizes, is_last=False)
            queued, _ = find_passthrough(
                module, *sizes, is_last=k == len(modules)
            )
            queued = [below[j] for j in queued]
        for j in used:
            below[j].users.append(k)
        for i, j in passed.items():
            above[i] = below[j]
        boundaries.append(above)
        kept.append(queued)
    for tensor in {id(t): t for t in boundaries[-1] or ()}.values():
        tensor.users.append(len(modules) + 1)
    return boundaries, kept


def _entering(maker, tensors):
    """`Crossing`s of symbolic tensors that a module makes, or `None`."""
    if tensors is None:
        return None
    return [
        Crossing(
            tuple(tensor.shape[0 if is_weight(tensor) else 1:]),
            str(tensor.dtype), maker, is_weight(tensor),
        )
        for tensor in tensors
    ]
