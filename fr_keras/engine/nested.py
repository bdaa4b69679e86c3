"""Nested models, expanded into the calls of their layers."""

import keras

from fr_keras.engine import private

# Packages whose Functional and Sequential classes behave like Keras' own.
_KERAS = ("keras.", "fr_keras.engine.functional")


def is_graph(layer):
    """Whether a layer is a Functional model, or a Sequential one with inputs.

    Args:
        layer: any object.

    Returns:
        bool: whether `fr_keras.cutting.graph.Graph` accepts it.
    """
    if isinstance(layer, keras.Sequential):
        return bool(layer.built and private.functional_of(layer) is not None)
    return hasattr(layer, "operations")


def overrides(model, names):
    """Returns the Keras methods that a model overrides.

    Args:
        model: `keras.Model`.
        names: iterable of str, names of methods.

    Returns:
        List of str, those of `names` that a class, or the object, overrides.
    """

    def is_overridden(name):
        if name in vars(model):
            return True
        owner = next(
            (c for c in type(model).__mro__ if name in vars(c)), keras.Model
        )
        return not owner.__module__.startswith(_KERAS)

    return [name for name in names if is_overridden(name)]


def depth_first_order(model):
    """Returns a model's calls, depth first from the outputs.

    This keeps branches together, so that few tensors are live between two
    calls. Calls of one layer with variables stay in the order in which Keras
    runs them, since they may assign its state. Calls that no output needs come
    last; Keras runs them too.

    Args:
        model: Functional `keras.Model`.

    Returns:
        List of Keras nodes without inputs, each after those it depends on.
    """
    in_keras = execution_order(model)
    known = {id(node) for node in in_keras}
    given = {id(tensor) for tensor in model.inputs}
    previous, last = {}, {}
    for node in in_keras:
        if getattr(node.operation, "variables", None):
            previous[id(node)] = last.get(id(node.operation))
            last[id(node.operation)] = node
    order, done = [], set()

    def producer(tensor):
        history = private.history_of(tensor)
        return private.calls_of(history.operation)[history.node_index]

    ends = [
        producer(output) for output in model.outputs if id(output) not in given
    ]
    for end in ends + in_keras:
        stack = [(end, False)]
        while stack:
            node, inputs_done = stack.pop()
            if id(node) in done or id(node) not in known or node.is_input:
                continue
            if inputs_done:
                done.add(id(node))
                order.append(node)
                continue
            stack.append((node, True))
            if previous.get(id(node)) is not None:
                stack.append((previous[id(node)], False))
            for tensor in reversed(node.input_tensors):
                if id(tensor) not in given:
                    stack.append((producer(tensor), False))
    return order


def execution_order(model):
    """Returns a model's calls in the order in which Keras runs them.

    Args:
        model: Functional `keras.Model`.

    Returns:
        List of Keras nodes, inputs included.
    """
    return [
        node for _, nodes in sorted(
            private.nodes_by_depth(model).items(), reverse=True
        ) for node in nodes
    ]


def execute_in_order(model, nodes):
    """Makes Keras run a model's calls in a given order.

    Args:
        model: Functional `keras.Model`.
        nodes: list of its calls, each after those it depends on.
    """
    numbers = {id(node): i for i, node in enumerate(nodes)}
    order = sorted(
        execution_order(model), key=lambda node: numbers.get(id(node), -1)
    )
    private.set_nodes_by_depth(
        model, {len(order) - i: [node] for i, node in enumerate(order)}
    )


class Calls:
    """The calls of a model's layers, with nested models expanded.

    A Functional or Sequential model that is called in another is replaced by
    its layers, at any depth. It remains one operation if its class overrides
    `call` or if it is called with further arguments.

    Args:
        model: Functional `keras.Model`.

    Attributes:
        input: nest of `keras.KerasTensor`, the model's input.
        inputs: the same as a flat list.
        output: nest of `keras.KerasTensor`, the model's output.
        outputs: the same as a flat list.
        nodes: list of the calls (Keras nodes), each after those it depends on.
    """

    def __init__(self, model):
        self.input, self.output = model.input, model.output
        self.inputs, self.outputs = model.inputs, model.outputs
        self.nodes = depth_first_order(model)
        if any(_nested_inputs(node.operation, node) for node in self.nodes):
            self._expand(model)

    def _expand(self, model):
        self.nodes = []
        self.inputs = [input_like(tensor) for tensor in model.inputs]
        self.input = keras.tree.pack_sequence_as(model.input, self.inputs)
        self.outputs = self._run(model, self.inputs)
        self.output = keras.tree.pack_sequence_as(model.output, self.outputs)

    def _run(self, model, inputs, training=None):
        """Calls a model's layers on symbolic tensors; returns its outputs."""
        tensors = {
            id(tensor): given for tensor, given in zip(model.inputs, inputs)
        }
        for node in depth_first_order(model):
            operation = node.operation
            args, kwargs = node.arguments.fill_in(tensors)
            # As `Functional.call` does.
            if training is not None and hasattr(
                operation, "_call_context_args"
            ):
                kwargs = {**kwargs, "training": training}
            nested = _nested_inputs(operation, node, args, kwargs)
            if nested is None:
                outputs = keras.tree.flatten(operation(*args, **kwargs))
                self.nodes.append(private.calls_of(operation)[-1])
            else:
                outputs = self._run(
                    _functional(operation),
                    [
                        self._cast(tensor, like.dtype)
                        for tensor, like in zip(nested, operation.inputs)
                    ],
                    kwargs.get("training"),
                )
            tensors |= {id(a): b for a, b in zip(node.outputs, outputs)}
        return [tensors[id(tensor)] for tensor in model.outputs]

    def _cast(self, tensor, dtype):
        """Casts an input of another dtype as a Functional model does."""
        if tensor.dtype == dtype:
            return tensor
        tensor = keras.ops.cast(tensor, dtype)
        cast = private.history_of(tensor).operation
        self.nodes.append(private.calls_of(cast)[-1])
        return tensor


def input_like(tensor, batch_size=None):
    """Creates a symbolic input like a given symbolic tensor.

    Args:
        tensor: `keras.KerasTensor`.
        batch_size: int, or `None` for that of `tensor`.

    Returns:
        `keras.KerasTensor`.
    """
    return keras.Input(
        batch_shape=(batch_size or tensor.shape[0], *tensor.shape[1:]),
        dtype=tensor.dtype,
        sparse=tensor.sparse,
        ragged=tensor.ragged,
        name=tensor.name,
    )


def _functional(model):
    if isinstance(model, keras.Sequential):
        return private.functional_of(model)
    return model


def _nested_inputs(operation, node, args=None, kwargs=None):
    """Returns the flat inputs of a nested model to be expanded, or `None`.

    (The graph already contains the effect of an overridden `__call__`.)

    Args:
        operation: the operation called.
        node: Keras node of the call.
        args: tuple, the positional arguments if not those of `node`.
        kwargs: dict, the keyword arguments, likewise.
    """
    if not is_graph(operation) or overrides(operation, ["call"]):
        return None
    names = node.arguments.kwargs.keys()
    if not (
        names <= {"inputs", "training", "mask"}
        and len(node.arguments.args) + ("inputs" in names) == 1
        and _has_masks_of_its_inputs(node)
    ):
        return None
    args = node.arguments.args if args is None else args
    kwargs = node.arguments.kwargs if kwargs is None else kwargs
    expected = operation.input
    inputs = args[0] if args else kwargs["inputs"]
    if isinstance(inputs, dict) and not isinstance(expected, dict):
        names = [tensor.name for tensor in operation.inputs]
        if not set(names) <= inputs.keys():
            return None
        flat = [inputs[name] for name in names]
    else:
        try:
            keras.tree.assert_same_structure(
                keras.tree.lists_to_tuples(_single(inputs)),
                keras.tree.lists_to_tuples(_single(expected)),
            )
        except (TypeError, ValueError):
            return None
        flat = keras.tree.flatten(inputs)
    for tensor, like in zip(flat, operation.inputs):
        if not isinstance(tensor, keras.KerasTensor) or (
            len(tensor.shape) != len(like.shape)
        ):
            return None
        # The cast would drop a mask.
        if tensor.dtype != like.dtype and (
            private.mask_of(tensor) is not None
        ):
            return None
    return flat


def _has_masks_of_its_inputs(node):
    """Whether a call is given no masks other than those of its inputs."""
    masks = keras.tree.flatten(node.arguments.kwargs.get("mask"))
    inputs = keras.tree.flatten(
        [node.arguments.args, node.arguments.kwargs.get("inputs", ())]
    )
    own = [private.mask_of(tensor) for tensor in inputs]
    return all(mask is None for mask in masks) or (
        len(masks) == len(own) and all(a is b for a, b in zip(masks, own))
    )


def _single(nest):
    is_single = isinstance(nest, (list, tuple)) and len(nest) == 1
    return nest[0] if is_single else nest
