"""What computing costs: the passes of a layer, a module's iteration."""

import numbers
import typing

import keras

from fr_keras.graph import Graph, size, weights
from fr_keras.layers import PositionEmbedding
from fr_keras.nested import is_graph
from fr_keras.tied import SentWeights, SharedLayer

# Memory-bound work per output element (normalization, activation, addition),
# in the multiply-adds that take as long.
_COST_PER_ELEMENT = 8


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
        example.

    Raises:
        ValueError: if `costs` lacks a layer.
    """
    operation = node.operation
    if isinstance(operation, SentWeights):
        return Cost(0.0, 0.0)
    if isinstance(operation, SharedLayer):
        operation = operation.layer
    if costs is None:
        shapes = [tensor.shape for tensor in node.output_tensors]
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
    """Multiply-adds per example: each kernel is used once per position.

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
    kernels = sum(
        size(variable.shape)
        for variable in weights(operation)
        if len(variable.shape) > 1
    )
    if isinstance(operation, (keras.layers.Embedding, PositionEmbedding)):
        kernels = 0  # Tables.
    if isinstance(operation, keras.layers.MultiHeadAttention):
        # Each position looks at each: two products, and the scores.
        kernels += positions * operation.num_heads * (
            operation.key_dim + operation.value_dim + _COST_PER_ELEMENT
        )
    return float(kernels * positions + _COST_PER_ELEMENT * elements)
