"""The graph of a Keras model: calls in order, and the tensors between them."""

import keras
import numpy as np

from fr_keras.cutting.sharing import Sharing
from fr_keras.engine.nested import Calls, is_graph


class Graph:
    """A model's calls of operations, in execution order.

    Nested Functional and Sequential models are expanded into their layers (see
    `fr_keras.engine.nested`).

    Args:
        model: as for `partition`.

    Attributes:
        name: str, the model's name.
        input: nest of `keras.KerasTensor`, the model's input.
        output: the same, the model's output.
        nodes: list of the calls (Keras nodes) without inputs, each after those
            it depends on.
        sharing: `fr_keras.cutting.sharing.Sharing`, the variables shared by
            several calls.
    """

    def __init__(self, model):
        self.name = getattr(model, "name", None)
        if isinstance(model, keras.Sequential):
            if not is_graph(model):
                raise ValueError(
                    "A Sequential model must have an input shape before it "
                    "can be split: start it with keras.Input(shape), or call "
                    f"it once. Received: model={model!r}"
                )
            model = keras.Model(model.inputs[0], model.outputs[0])
        if not is_graph(model):
            raise TypeError(
                "Only Sequential and Functional models can be split. For any "
                "other, pass a list of modules as `model`; or, if its `call` "
                "is a pure function, split the Functional model "
                "keras.Model(inputs, model.call(inputs)). "
                f"Received: model={model!r}"
            )
        calls = Calls(model)
        self.input, self.output = calls.input, calls.output
        self._inputs = calls.inputs
        self.nodes = calls.nodes
        self.sharing = Sharing(self.nodes)
        self._producers = {
            id(tensor): (i, tensor)
            for i, node in enumerate(self.nodes)
            for tensor in node.output_tensors
        }
        # Where each tensor is last used; outputs of the model, after the end.
        self._last_use = {
            id(tensor): i
            for i, node in enumerate(self.nodes)
            for tensor in node.input_tensors
        }
        for tensor in calls.outputs:
            self._last_use[id(tensor)] = len(self.nodes)
        needed = self._needed(calls.outputs)
        # Shared weights belong to the first call that uses them.
        self.has_weights = np.array(
            [
                needed[i] and bool(
                    {id(variable) for variable in self.sharing.owned(i)}
                    & {id(weight) for weight in weights(node.operation)}
                )
                for i, node in enumerate(self.nodes)
            ],
            bool,
        )

    def _needed(self, outputs):
        """Returns for each call whether an output of the model needs it."""
        needed = [False] * len(self.nodes)
        tensors = {id(tensor) for tensor in outputs}
        for i, node in reversed(list(enumerate(self.nodes))):
            needed[i] = any(id(t) in tensors for t in node.output_tensors)
            if needed[i]:
                tensors |= {id(tensor) for tensor in node.input_tensors}
        return needed

    def crossing(self, i):
        """Returns what is computed or given below place i and needed above it.

        Returns:
            List of `keras.KerasTensor`, and then of `keras.Variable`, tied
            weights that are sent along.
        """
        given = [
            tensor for tensor in self._inputs
            if self._last_use.get(id(tensor), -1) >= i
        ]
        made = [
            tensor for tensor_id, (maker, tensor) in self._producers.items()
            if maker < i <= self._last_use.get(tensor_id, -1)
        ]
        sent = [t.variable for t in self.sharing.tied if t.crosses(i)]
        return given + made + sent

    def crossing_sizes(self):
        """Counts the computed tensors at each place, and their elements."""
        count = np.zeros(len(self.nodes) + 2, np.int64)
        elements = np.zeros(len(self.nodes) + 2, np.int64)
        spans = [
            (maker, self._last_use.get(tensor_id, maker), tensor)
            for tensor_id, (maker, tensor) in self._producers.items()
        ]
        spans += [
            (tied.calls[0], tied.calls[-1], tied.variable)
            for tied in self.sharing.tied
        ]
        for maker, stop, tensor in spans:
            for array, amount in ((count, 1), (elements, size(tensor.shape))):
                array[maker + 1] += amount
                array[stop + 1] -= amount
        return np.cumsum(count), np.cumsum(elements)

    def may_split(self, ties=True):
        """Returns for every place 0 … n whether the model may be split there.

        Args:
            ties: bool, whether several modules may share weights.

        Returns:
            Array of bool.
        """
        allowed = np.ones(len(self.nodes) + 1, bool)
        for _, first, last in self.inseparable(ties):
            allowed[first + 1 : last + 1] = False
        return allowed

    def inseparable(self, ties=True):
        """Returns calls that share a module: `(operation, first, last)`."""
        spans = list(self.sharing.inseparable)
        if not ties:
            spans += [
                (tied.operation, tied.calls[0], tied.calls[-1])
                for tied in self.sharing.tied
            ]
        return spans

    def places(self, ties=True):
        """Returns the most places at which the model can be split at once."""
        allowed = self.may_split(ties)
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


def as_graph(model):
    """Returns the `Graph` of a model, or the one given."""
    return model if isinstance(model, Graph) else Graph(model)


def weights(operation):
    """Returns the weights of a layer; other operations have none."""
    return getattr(operation, "weights", ())


def size(shape):
    """Returns the number of elements; unknown dimensions count as 1."""
    return int(np.prod([dimension or 1 for dimension in shape], dtype=np.int64))
