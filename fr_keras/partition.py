"""Cutting: a Keras model into K modules that, chained, are the model."""

import keras
import numpy as np

# Memory-bound work per output element (normalization, activation, addition),
# in the multiply-adds that take as long.
_COST_PER_ELEMENT = 8


def partition(model, num_modules, costs=None):
    """Cuts a Sequential or Functional model into modules.

    The model is cut only where a single tensor crosses, and no layer that is
    used more than once is separated from itself. Among all such cuts the one
    is taken whose slowest module is fastest. One iteration of Features Replay
    costs module k < K two forward passes and a backward pass (4 forward
    units), but module K, which has nothing to replay, only 3, so the last
    module gets more layers than the others. Of equally balanced cuts the one
    with the smaller crossing tensors is taken.

    The modules share their layers, and so their weights, with `model`.

    Args:
        model: built `keras.Sequential` or Functional `keras.Model` with one
            input tensor and one output tensor.
        num_modules: int, K, at least 1.
        costs: dict from layer name to the cost of the layer's forward pass in
            any unit, or `None` for an estimate of its multiply-adds per
            example. Every layer must be there (operations that are no layers
            and input layers need not be: they cost 0).

    Returns:
        List of `num_modules` Functional `keras.Model`s; the output of one is
        the input of the next.

    Raises:
        ValueError: if the model cannot be cut into that many modules.
        TypeError: if `model` is neither Sequential nor Functional.

    Example:

    ```python
    model = fr_keras.models.resnet(20, num_classes=10)
    modules = fr_keras.partition(model, num_modules=4)
    [module.count_params() for module in modules]
    ```
    """
    if isinstance(num_modules, bool) or not isinstance(num_modules, int):
        raise ValueError(
            "`num_modules` must be an integer. "
            f"Received: num_modules={num_modules!r}"
        )
    if num_modules < 1:
        raise ValueError(
            f"`num_modules` must be at least 1. Received: {num_modules=}"
        )
    nodes = _nodes_in_order(model)
    places = _places_to_cut(model, nodes)
    if num_modules - 1 > len(places):
        raise ValueError(
            f"Model '{model.name}' has {len(places)} places where a single "
            "tensor crosses and it can be cut, so `num_modules` must be at "
            f"most {len(places) + 1}. Received: {num_modules=}"
        )
    work = np.cumsum([_node_cost(node, costs) for node in nodes])
    cuts = _best_cuts(places, work, num_modules)
    tensors = [model.inputs[0], *(places[i][1] for i in cuts), model.outputs[0]]
    return [
        keras.Model(below, above, name=f"{model.name}_module_{k}")
        for k, (below, above) in enumerate(zip(tensors, tensors[1:]), start=1)
    ]


def _nodes_in_order(model):
    """The model's calls of operations, inputs first, in order of execution."""
    if isinstance(model, keras.Sequential):
        if not model.built or not model.inputs:
            raise ValueError(
                "A Sequential model must have an input shape before it can be "
                "cut: begin it with keras.Input(shape) or call it once. "
                f"Received: model={model!r}"
            )
        model = keras.Model(model.inputs, model.outputs)
    if not hasattr(model, "operations"):
        raise TypeError(
            "`partition` cuts Sequential and Functional models. Pass the "
            "modules of any other model yourself, as a list in place of "
            f"`model`. Received: model={model!r}"
        )
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise ValueError(
            "`partition` cuts models with one input and one output tensor. "
            f"Received: model '{model.name}' with {len(model.inputs)} inputs "
            f"and {len(model.outputs)} outputs"
        )
    by_depth = model._nodes_by_depth
    return [
        node for depth in sorted(by_depth, reverse=True)
        for node in by_depth[depth]
    ]


def _places_to_cut(model, nodes):
    """Where one tensor crosses: list of (index of last node below, tensor)."""
    made, last_use, crossing = {}, {}, {}
    first_call, last_call = {}, {}
    for i, node in enumerate(nodes):
        first_call.setdefault(id(node.operation), i)
        last_call[id(node.operation)] = i
        for tensor in node.input_tensors:
            last_use[id(tensor)] = i
        for tensor in node.output_tensors:
            made[id(tensor)] = i
            crossing[id(tensor)] = tensor
    for tensor in model.outputs:
        last_use[id(tensor)] = len(nodes)

    places = []
    for i in range(len(nodes) - 1):
        alive = [t for t in made if made[t] <= i < last_use.get(t, -1)]
        separates = any(
            first_call[op] <= i < last_call[op] for op in first_call
        )
        above = nodes[i].is_input
        if len(alive) == 1 and not separates and not above:
            places.append((i, crossing[alive[0]]))
    return places


def _node_cost(node, costs):
    """Cost of one call of an operation."""
    operation = node.operation
    if node.is_input:
        return 0.0
    if costs is None:
        shapes = [tensor.shape for tensor in node.output_tensors]
        return _estimated_cost(operation, shapes)
    if operation.name in costs:
        return float(costs[operation.name])
    if isinstance(operation, keras.layers.Layer):
        raise ValueError(
            f"`costs` must have an entry for every layer; there is none for "
            f"'{operation.name}'. Received: costs={costs}"
        )
    return 0.0


def _estimated_cost(operation, output_shapes):
    """Multiply-adds per example: each kernel is used once per position."""
    elements = sum(_size(shape[1:]) for shape in output_shapes)
    positions = max(_size(shape[1:-1]) for shape in output_shapes)
    kernels = sum(
        _size(variable.shape)
        for variable in getattr(operation, "trainable_variables", ())
        if len(variable.shape) > 1
    )
    if isinstance(operation, keras.layers.Embedding):
        kernels = 0
    return float(kernels * positions + _COST_PER_ELEMENT * elements)


def _size(shape):
    """Number of elements, dimensions of unknown length counted once."""
    return int(np.prod([dimension or 1 for dimension in shape]))


def _best_cuts(places, work, num_modules):
    """Indices into `places` of the cuts whose slowest module is fastest."""
    ends = np.array([work[i] for i, _ in places] + [work[-1]])
    sizes = [_size(tensor.shape) for _, tensor in places]

    def iteration_cost(start, end, k):
        forward = ends[end] - (ends[start] if start >= 0 else 0.0)
        return (3 if k == num_modules else 4) * forward

    # best[j]: (cost of the slowest module, crossing elements, cuts) of the
    # best way to cut all that lies below place j into k modules.
    best = {
        j: (iteration_cost(-1, j, 1), 0, ()) for j in range(len(ends))
    }
    for k in range(2, num_modules + 1):
        last = range(len(ends)) if k < num_modules else [len(ends) - 1]
        longer = {}
        for j in last:
            for i in range(j - 1, k - 3, -1):
                cost = iteration_cost(i, j, k)
                if j in longer and cost > longer[j][0]:
                    break  # All further modules k are longer still.
                below, crossing, cuts = best[i]
                candidate = (
                    max(below, cost), crossing + sizes[i], (*cuts, i)
                )
                longer[j] = min(longer.get(j, candidate), candidate)
        best = {j: longer[j] for j in longer}
    return best[len(ends) - 1][2]
