"""The graph of a Keras model: calls in order, and tensors between them."""

import keras
import numpy as np


class Graph:
    """A model's calls of operations, in an order of execution.

    Args:
        model: as for `partition`.

    Attributes:
        input: nest of `keras.KerasTensor`, the model's input.
        output: the same, the model's output.
        nodes: list of the calls (Keras' nodes), inputs left out, every one
            after those that it needs.
    """

    def __init__(self, model):
        if isinstance(model, keras.Sequential):
            if not is_graph(model):
                raise ValueError(
                    "A Sequential model must have an input shape before it "
                    "can be cut: begin it with keras.Input(shape) or call it "
                    f"once. Received: model={model!r}"
                )
            model = keras.Model(model.inputs[0], model.outputs[0])
        if not is_graph(model):
            raise TypeError(
                "`partition` cuts Sequential and Functional models. Pass the "
                "modules of any other model yourself, as a list in place of "
                f"`model`. Received: model={model!r}"
            )
        self.input, self.output = model.input, model.output
        self._inputs = model.inputs
        self.nodes = _in_order(model)
        self._made = {
            id(tensor): (i, tensor)
            for i, node in enumerate(self.nodes)
            for tensor in node.output_tensors
        }
        # Where a tensor is last needed; an output of the model, after the end.
        self._last_use = {
            id(tensor): i
            for i, node in enumerate(self.nodes)
            for tensor in node.input_tensors
        }
        for tensor in model.outputs:
            self._last_use[id(tensor)] = len(self.nodes)
        self.has_weights = np.array(
            [bool(weights(node.operation)) for node in self.nodes], bool
        )

    def crossing(self, i):
        """Tensors made below place i, or given, and needed above it."""
        given = [
            tensor for tensor in self._inputs
            if self._last_use.get(id(tensor), -1) >= i
        ]
        made = [
            tensor for tensor_id, (maker, tensor) in self._made.items()
            if maker < i <= self._last_use.get(tensor_id, -1)
        ]
        return given + made

    def crossing_sizes(self):
        """Numbers and total elements of what is made below every place."""
        count = np.zeros(len(self.nodes) + 2, np.int64)
        elements = np.zeros(len(self.nodes) + 2, np.int64)
        for tensor_id, (maker, tensor) in self._made.items():
            stop = self._last_use.get(tensor_id, maker)
            for array, amount in ((count, 1), (elements, size(tensor.shape))):
                array[maker + 1] += amount
                array[stop + 1] -= amount
        return np.cumsum(count), np.cumsum(elements)

    def shared_layers(self):
        """Shared layers with state: list of (layer, first, last call).

        State is weights, but also that of random number generators: modules
        that share a variable would wait for each other, and only one of them
        can have it on its device.
        """
        calls = {}
        for i, node in enumerate(self.nodes):
            calls.setdefault(id(node.operation), []).append(i)
        return [
            (self.nodes[of_one[0]].operation, of_one[0], of_one[-1])
            for of_one in calls.values()
            if len(of_one) > 1
            and getattr(self.nodes[of_one[0]].operation, "variables", ())
        ]

    def may_cut(self):
        """For every place 0 … n, whether no shared layer is separated."""
        allowed = np.ones(len(self.nodes) + 1, bool)
        for _, first, last in self.shared_layers():
            allowed[first + 1 : last + 1] = False
        return allowed

    def places(self):
        """As many places as possible at which the model can be cut at once."""
        allowed = self.may_cut()
        places, since = [], 0
        for i in range(1, len(self.nodes)):
            if (
                allowed[i]
                and self.has_weights[since:i].any()
                and self.has_weights[i:].any()
            ):
                places.append(i)
                since = i
        return places


def _in_order(model):
    """Calls of operations, depth first from the outputs, which keeps a branch
    together and so lets few tensors cross."""
    known = {id(node) for nodes in model._nodes_by_depth.values()
             for node in nodes}
    given = {id(tensor) for tensor in model.inputs}
    order, done = [], set()

    def maker(tensor):
        history = tensor._keras_history
        return history.operation._inbound_nodes[history.node_index]

    for output in model.outputs:
        stack = [] if id(output) in given else [(maker(output), False)]
        while stack:
            node, inputs_done = stack.pop()
            if id(node) in done or id(node) not in known or node.is_input:
                continue
            if inputs_done:
                done.add(id(node))
                order.append(node)
                continue
            stack.append((node, True))
            for tensor in reversed(node.input_tensors):
                if id(tensor) not in given:
                    stack.append((maker(tensor), False))
    return order


def submodel(nodes, inputs, outputs, name, batch_size=None):
    """The Functional model of some calls, with what passes through them.

    Args:
        nodes: list of Keras' nodes, every one after those that it needs.
        inputs: nest of `keras.KerasTensor`, what the calls need.
        outputs: nest of the same, among what they make or need.
        name: str.
        batch_size: int, or `None` for that of `inputs`.

    Returns:
        `keras.Model` that shares the layers.
    """
    renewed = {
        id(tensor): keras.Input(
            batch_shape=(batch_size or tensor.shape[0], *tensor.shape[1:]),
            dtype=tensor.dtype,
            sparse=tensor.sparse,
            ragged=tensor.ragged,
            name=tensor.name,
        )
        for tensor in keras.tree.flatten(inputs)
    }
    for node in nodes:
        args, kwargs = node.arguments.fill_in(renewed)
        made = keras.tree.flatten(node.operation(*args, **kwargs))
        renewed |= {id(a): b for a, b in zip(node.outputs, made)}

    def renew(tensor):
        return renewed[id(tensor)]

    return keras.Model(
        keras.tree.map_structure(renew, inputs),
        keras.tree.map_structure(renew, outputs),
        name=name,
    )


def weights(operation):
    """The weights of a layer; an operation that is no layer has none."""
    return getattr(operation, "weights", ())


def size(shape):
    """Number of elements, dimensions of unknown length counted once."""
    return int(np.prod([dimension or 1 for dimension in shape], dtype=np.int64))


def is_graph(layer):
    """Whether a layer is a Functional model, or a Sequential one with inputs.

    Args:
        layer: any object.

    Returns:
        bool: whether `Graph` takes it.
    """
    if isinstance(layer, keras.Sequential):
        return bool(layer.built and layer.inputs)
    return hasattr(layer, "operations")
