"""What computing costs: the forward pass of a layer, a module's iteration."""

import keras

from fr_keras.graph import Graph, is_graph, size, weights

# Memory-bound work per output element (normalization, activation, addition),
# in the multiply-adds that take as long.
_COST_PER_ELEMENT = 8


def iteration_units(k, num_modules, replays=True):
    """Cost of an iteration of a module, in forward passes of that module.

    A backward pass takes two.

    Args:
        k: int, the number of the module, from 1.
        num_modules: int, K.
        replays: bool, whether modules k < K replay, as in Features Replay.

    Returns:
        int.
    """
    return 4 if replays and k < num_modules else 3


def forward_cost(node, costs=None):
    """Cost of the forward pass of one call of an operation.

    Args:
        node: Keras' node of the call.
        costs: dict from layer name to cost, or `None`, as for `partition`.

    Returns:
        float, in the unit of `costs`, or estimated multiply-adds per example.

    Raises:
        ValueError: if `costs` lacks a layer.
    """
    operation = node.operation
    if costs is None:
        shapes = [tensor.shape for tensor in node.output_tensors]
        return estimated_cost(operation, shapes)
    if operation.name in costs:
        return float(costs[operation.name])
    if isinstance(operation, keras.layers.Layer):
        raise ValueError(
            f"`costs` must have an entry for every layer; there is none for "
            f"'{operation.name}'. Received: costs={costs}"
        )
    return 0.0


def estimated_cost(operation, output_shapes):
    """Multiply-adds per example: each kernel is used once per position.

    Args:
        operation: `keras.Operation`, a layer or a model among them.
        output_shapes: list of shapes, the batch first.

    Returns:
        float.
    """
    if is_graph(operation):
        # A nested model: what its calls cost.
        return sum(forward_cost(node) for node in Graph(operation).nodes)
    elements = sum(size(shape[1:]) for shape in output_shapes)
    positions = max(size(shape[1:-1]) for shape in output_shapes)
    kernels = sum(
        size(variable.shape)
        for variable in weights(operation)
        if len(variable.shape) > 1
    )
    if isinstance(operation, keras.layers.Embedding):
        kernels = 0
    return float(kernels * positions + _COST_PER_ELEMENT * elements)
