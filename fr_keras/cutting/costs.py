"""Costs of computation: of the passes of a layer, and of an iteration."""

import json
import numbers
import typing

import keras
import tensorflow as tf

from fr_keras.cutting.flops import multiply_adds
from fr_keras.cutting.graph import Graph, size, weights
from fr_keras.engine import private
from fr_keras.engine.nested import is_graph
from fr_keras.engine.tied import SentWeights, SharedLayer
from fr_keras.engine.user_warnings import warn

# Memory-bound work per output element (normalization, activation, addition),
# in multiply-adds of equal duration.
_COST_PER_ELEMENT = 8

# The length assumed for dimensions of unknown length.
_LENGTH = 64

# Layers that use their kernel once per position of their output.
_BY_POSITION = (
    keras.layers.Dense,
    keras.layers.Conv1D,
    keras.layers.Conv2D,
    keras.layers.Conv3D,
    keras.layers.DepthwiseConv1D,
    keras.layers.DepthwiseConv2D,
    keras.layers.SeparableConv1D,
    keras.layers.SeparableConv2D,
)

# Keras layers without kernels that multiply nevertheless, or may.
_PRODUCTS = (keras.layers.Attention, keras.layers.Dot, keras.layers.Lambda)

# The factor by which the slowest module may exceed its share unreported.
_IMBALANCE = 1.5

# Costs of traced calls by kind: many layers of a network are alike.
_traced: dict = {}


class Cost(typing.NamedTuple):
    """The cost of running something once, forward and backward.

    Attributes:
        forward: float, of a forward pass.
        backward: float, of a backward pass, with the update of the weights.
    """

    forward: float
    backward: float

    def of_iteration(self, num_plays):
        """Returns the cost of an iteration.

        Args:
            num_plays: int, the number of forward passes, from `num_plays`.

        Returns:
            float.
        """
        return num_plays * self.forward + self.backward


def num_plays(k, num_modules, replays=True):
    """Returns a module's forward passes per iteration: play and replay.

    Args:
        k: int, the number of the module, from 1.
        num_modules: int, K.
        replays: bool, whether modules k < K replay, as in Features Replay.

    Returns:
        int.
    """
    return 2 if replays and k < num_modules else 1


def total(costs):
    """Returns the sum of `Cost`s, a `Cost`."""
    costs = list(costs)
    return Cost(
        sum(cost.forward for cost in costs),
        sum(cost.backward for cost in costs),
    )


def as_cost(given):
    """Converts the cost that a user gave for a layer to a `Cost`.

    Args:
        given: number, the cost of the forward pass, with the backward pass
            costing twice as much; or pair of numbers, forward and backward.

    Returns:
        `Cost`.

    Raises:
        ValueError: if it is neither, or negative, or not finite.
    """
    pair = (given, 2 * given) if isinstance(given, numbers.Real) else given
    try:
        forward, backward = map(float, pair)
        if 0 <= forward < float("inf") and 0 <= backward < float("inf"):
            return Cost(forward, backward)
    except (TypeError, ValueError):
        pass
    raise ValueError(
        "The cost of a layer must be a number or a pair of numbers, (forward, "
        f"backward), finite and not negative. Received: {given!r}"
    )


def call_cost(node, costs=None):
    """Returns the cost of one call of an operation.

    Args:
        node: Keras node of the call.
        costs: dict from layer name to cost, or `None`, as for `partition`.

    Returns:
        `Cost`, in the unit of `costs`, or in estimated multiply-adds per
        example, with 64 for dimensions of unknown length.

    Raises:
        ValueError: if `costs` lacks a layer.
    """
    operation = node.operation
    if isinstance(operation, SentWeights):
        return Cost(0.0, 0.0)
    if isinstance(operation, SharedLayer):
        operation = operation.layer
    if costs is None:
        if is_graph(operation):
            return total(map(call_cost, Graph(operation).nodes))
        if not _is_by_position(operation):
            traced = _traced_cost(node)
            if traced is not None:
                return as_cost(traced)
        shapes = [_example(tensor) for tensor in node.output_tensors]
        return as_cost(estimated_cost(operation, shapes))
    if operation.name in costs:
        return as_cost(costs[operation.name])
    if isinstance(operation, keras.layers.Layer):
        raise ValueError(
            "`costs` must have an entry for every layer, but has none for "
            f"'{operation.name}'; fr_keras.measure_costs(model) has all. "
            f"Received: costs={costs}"
        )
    return Cost(0.0, 0.0)


def estimated_cost(operation, output_shapes):
    """Estimates multiply-adds per example, with kernels used once per position.

    For layers that are not traced, from what is known of them: tables,
    including those of sublayers, are looked up, not multiplied.

    Args:
        operation: `keras.Operation`, such as a layer or a model.
        output_shapes: list of shapes, the batch first.

    Returns:
        float, of the forward pass.
    """
    if is_graph(operation):
        # A nested model costs as much as its calls.
        return total(map(call_cost, Graph(operation).nodes)).forward
    elements = sum(size(shape[1:]) for shape in output_shapes)
    positions = max(size(shape[1:-1]) for shape in output_shapes)
    tables = {
        id(variable) for layer in _layers(operation)
        if "Embedding" in type(layer).__name__
        for variable in layer.weights
    }
    kernels = sum(
        size(variable.shape) for variable in weights(operation)
        if len(variable.shape) > 1 and id(variable) not in tables
    )
    return float(kernels * positions + _COST_PER_ELEMENT * elements)


def _layers(operation):
    """Returns a layer and all its sublayers; none for other operations."""
    if not isinstance(operation, keras.layers.Layer):
        return []
    return list(private.sublayers(operation))


def _is_by_position(operation):
    """Whether `estimated_cost` is accurate for an operation."""
    if type(operation) in _BY_POSITION:
        return True
    return (
        len(_layers(operation)) == 1
        and type(operation).__module__.startswith(("keras.", "fr_keras."))
        and not isinstance(operation, _PRODUCTS)
        and all(len(variable.shape) < 2 for variable in operation.weights)
    )


def _traced_cost(node):
    """Counts multiply-adds per example of a call, from its traced operations.

    Args:
        node: Keras node of the call.

    Returns:
        float, of the forward pass, or `None` if the call cannot be traced, or
        its work cannot be known beforehand.
    """
    kind = _kind(node)
    if kind not in _traced:
        cost = _trace(node)
        if kind is None:
            return cost
        _traced[kind] = cost
    return _traced[kind]


def _trace(node):
    tensors = list({id(t): t for t in node.input_tensors}.values())
    specs = [tf.TensorSpec(_example(t), t.dtype) for t in tensors]

    def call(*values):
        given = {id(t): value for t, value in zip(tensors, values)}
        args, kwargs = node.arguments.fill_in(given)
        with keras.StatelessScope():  # Assignments are discarded.
            return keras.tree.flatten(node.operation(*args, **kwargs))

    try:
        products, written = multiply_adds(call, specs)
    except Exception:  # A layer may fail on a single example.
        return None
    # The output is mostly written by a product, and counted there already.
    batch_size = specs[0].shape[0] if specs and specs[0].shape.rank else 1
    written = max(written / batch_size, sum(
        size(_example(tensor)[1:]) for tensor in node.output_tensors
    ))
    return products / batch_size + _COST_PER_ELEMENT * written


def _example(tensor):
    """Returns the shape of a tensor for one example.

    Args:
        tensor: `keras.KerasTensor`.

    Returns:
        Tuple of ints; a fixed batch size stays as it is.
    """
    return (
        *(size or 1 for size in tensor.shape[:1]),
        *(size or _LENGTH for size in tensor.shape[1:]),
    )


def _kind(node):
    """Returns a key that calls of equal cost share; `None` if unknown."""
    operation = node.operation
    if type(operation).get_config is keras.layers.Layer.get_config:
        return None  # Its arguments are not known.
    try:
        config = json.dumps(keras.saving.serialize_keras_object(
            {**operation.get_config(), "name": None}
        ))
    except Exception:
        return None
    arguments = keras.tree.map_structure(
        lambda value: (
            (tuple(value.shape), value.dtype)
            if isinstance(value, keras.KerasTensor) else value
        ),
        [node.arguments.args, node.arguments.kwargs],
    )
    shapes = [tuple(variable.shape) for variable in weights(operation)]
    return repr((type(operation), config, arguments, shapes))


def warn_if_uneven(names, costs, split_points, estimated, replays):
    """Warns if the slowest module takes much longer than its share.

    Args:
        names: list of str, the names of a network's operations.
        costs: list of their `Cost`s.
        split_points: as returned by
            `fr_keras.cutting.partition.find_split_points`.
        estimated: bool, whether the costs are estimates.
        replays: bool, as for `num_plays`.
    """
    num_modules = len(split_points) + 1
    plays = [
        num_plays(k, num_modules, replays) for k in range(1, num_modules + 1)
    ]
    whole = total(costs)
    if num_modules == 1 or not sum(whole):
        return
    bounds = list(zip([0, *split_points], [*split_points, len(names)]))
    times = [
        total(costs[start:stop]).of_iteration(n)
        for (start, stop), n in zip(bounds, plays)
    ]
    # If work could be divided at will, all modules would take equally long.
    even = 1 / sum(1 / whole.of_iteration(n) for n in plays)
    k = times.index(max(times))
    if times[k] <= _IMBALANCE * even:
        return
    of_layers = [cost.of_iteration(plays[k]) for cost in costs]
    i = max(range(*bounds[k]), key=lambda i: of_layers[i])
    warn(
        f"Module {k + 1} of {num_modules} takes {times[k] / even:.1f} times "
        f"as long as in an even split ({times[k] / sum(times):.0%} of all "
        "work), and the other modules wait for it. "
        f"{of_layers[i] / times[k]:.0%} of its time is layer '{names[i]}', "
        "which cannot be split: use fewer modules, or divide that layer into "
        "several." + (
            " These are estimates; pass costs=fr_keras.measure_costs(model) to "
            "use measured times." if estimated else ""
        )
    )
