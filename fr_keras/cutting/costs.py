"""What computing costs: the passes of a layer, a module's iteration."""

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
# in the multiply-adds that take as long.
_COST_PER_ELEMENT = 8

# The length of dimensions of unknown length.
_LENGTH = 64

# Layers that use their kernel once at each position of their output.
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

# Layers of Keras without kernels that multiply all the same, or may.
_PRODUCTS = (keras.layers.Attention, keras.layers.Dot, keras.layers.Lambda)

# By how much the slowest module may exceed its share before it is reported.
_IMBALANCE = 1.5

# What traced calls of a kind cost: layers of a network are alike.
_traced: dict = {}


class Cost(typing.NamedTuple):
    """What it costs to run something once, forward and backward.

    Attributes:
        forward: float, of a forward pass.
        backward: float, of a backward pass, with the update of the weights.
    """

    forward: float
    backward: float

    def of_iteration(self, num_plays):
        """Cost of an iteration.

        Args:
            num_plays: int, forward passes, of `num_plays`.

        Returns:
            float.
        """
        return num_plays * self.forward + self.backward


def num_plays(k, num_modules, replays=True):
    """Forward passes in an iteration of a module: play, and replay.

    Args:
        k: int, the number of the module, from 1.
        num_modules: int, K.
        replays: bool, whether modules k < K replay, as in Features Replay.

    Returns:
        int.
    """
    return 2 if replays and k < num_modules else 1


def total(costs):
    """The sum of `Cost`s, a `Cost`."""
    costs = list(costs)
    return Cost(
        sum(cost.forward for cost in costs),
        sum(cost.backward for cost in costs),
    )


def as_cost(given):
    """The `Cost` that a user gave for a layer.

    Args:
        given: number, of the forward pass, where the backward pass costs
            twice as much; or pair of numbers, forward and backward.

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
        "`costs` must have for each layer a number, or a pair of numbers "
        "(forward, backward), not negative and finite. "
        f"Received: {given!r}"
    )


def call_cost(node, costs=None):
    """Cost of one call of an operation.

    Args:
        node: Keras' node of the call.
        costs: dict from layer name to cost, or `None`, as for `partition`.

    Returns:
        `Cost`, in the unit of `costs`, or in estimated multiply-adds per
        example, in which dimensions of unknown length are 64 long.

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
            f"`costs` must have an entry for every layer; there is none for "
            f"'{operation.name}'. Received: costs={costs}"
        )
    return Cost(0.0, 0.0)


def estimated_cost(operation, output_shapes):
    """Multiply-adds per example, of kernels used once at each position.

    For layers that are not traced, for what is known of them: tables, those
    of layers inside included, are looked up, not multiplied with.

    Args:
        operation: `keras.Operation`, a layer or a model among them.
        output_shapes: list of shapes, the batch first.

    Returns:
        float, of the forward pass.
    """
    if is_graph(operation):
        # A nested model: what its calls cost.
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
    """A layer and all layers inside of it; none for other operations."""
    if not isinstance(operation, keras.layers.Layer):
        return []
    return list(private.sublayers(operation))


def _is_by_position(operation):
    """Whether `estimated_cost` is right for an operation as it is."""
    if type(operation) in _BY_POSITION:
        return True
    return (
        len(_layers(operation)) == 1
        and type(operation).__module__.startswith(("keras.", "fr_keras."))
        and not isinstance(operation, _PRODUCTS)
        and all(len(variable.shape) < 2 for variable in operation.weights)
    )


def _traced_cost(node):
    """Multiply-adds per example of a call, from its traced operations.

    Args:
        node: Keras' node of the call.

    Returns:
        float, of the forward pass, or `None` if it cannot be traced, or not
        be known beforehand what it computes.
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
        with keras.StatelessScope():  # What a layer assigns is forgotten.
            return keras.tree.flatten(node.operation(*args, **kwargs))

    try:
        products, written = multiply_adds(call, specs)
    except Exception:  # Whatever a layer does with an example alone.
        return None
    # Mostly it is a product that writes the output.
    batch_size = specs[0].shape[0] if specs and specs[0].shape.rank else 1
    written = max(written / batch_size, sum(
        size(_example(tensor)[1:]) for tensor in node.output_tensors
    ))
    return products / batch_size + _COST_PER_ELEMENT * written


def _example(tensor):
    """The shape of a tensor of one example.

    Args:
        tensor: `keras.KerasTensor`.

    Returns:
        Tuple of ints; a batch size that is not open stays as it is.
    """
    return (
        *(size or 1 for size in tensor.shape[:1]),
        *(size or _LENGTH for size in tensor.shape[1:]),
    )


def _kind(node):
    """What calls have in common that cost the same; `None` if unknown."""
    operation = node.operation
    if type(operation).get_config is keras.layers.Layer.get_config:
        return None  # Whatever its class was made with.
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


def warn_if_uneven(names, costs, cut, estimated):
    """Warns if the slowest module takes much longer than its share.

    Args:
        names: list of str, what the operations of a network are called.
        costs: list of `Cost`s, theirs.
        cut: as `fr_keras.cutting.partition.best_cut` returns it.
        estimated: bool, whether the costs are estimates.
    """
    num_modules = len(cut) + 1
    plays = [num_plays(k, num_modules) for k in range(1, num_modules + 1)]
    whole = total(costs)
    if num_modules == 1 or not sum(whole):
        return
    bounds = list(zip([0, *cut], [*cut, len(names)]))
    times = [
        total(costs[start:stop]).of_iteration(n)
        for (start, stop), n in zip(bounds, plays)
    ]
    # If the work could be divided at will, all would take the same time.
    even = 1 / sum(1 / whole.of_iteration(n) for n in plays)
    k = times.index(max(times))
    if times[k] <= _IMBALANCE * even:
        return
    of_layers = [cost.of_iteration(plays[k]) for cost in costs]
    i = max(range(*bounds[k]), key=lambda i: of_layers[i])
    warn(
        f"Module {k + 1} of {num_modules} takes {times[k] / even:.1f} times "
        f"as long as in an even split ({times[k] / sum(times):.0%} of all "
        "work), and the others wait for it. Most of it, "
        f"{of_layers[i] / times[k]:.0%}, is layer '{names[i]}', which cannot "
        "be split: use fewer modules, or make it of several layers." + (
            " These are estimates; fr_keras.measure_costs(model) measures."
            if estimated else ""
        )
    )
