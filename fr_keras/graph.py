"""The graph of a Keras model: calls in order, and tensors between them."""

import collections
import contextlib

import keras
import numpy as np
from keras.src.models.functional import Functional

from fr_keras.nested import Calls, execute_in_order, input_like, is_graph
from fr_keras.sharing import Sharing
from fr_keras.tied import SentWeights, SharedLayer, WeightInput


class Graph:
    """A model's calls of operations, in an order of execution.

    Nested Functional and Sequential models are their layers (see
    `fr_keras.nested`).

    Args:
        model: as for `partition`.

    Attributes:
        name: str, the model's name.
        input: nest of `keras.KerasTensor`, the model's input.
        output: the same, the model's output.
        nodes: list of the calls (Keras' nodes), inputs left out, every one
            after those that it needs.
        sharing: `fr_keras.sharing.Sharing`, what several calls use.
    """

    def __init__(self, model):
        self.name = getattr(model, "name", None)
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
                "`model`, or make a graph of it, if its `call` is pure: "
                "keras.Model(inputs, model.call(inputs)). "
                f"Received: model={model!r}"
            )
        calls = Calls(model)
        self.input, self.output = calls.input, calls.output
        self._inputs = calls.inputs
        self.nodes = calls.nodes
        self.sharing = Sharing(self.nodes)
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
        for tensor in calls.outputs:
            self._last_use[id(tensor)] = len(self.nodes)
        needed = self._needed(calls.outputs)
        # Of weights that are shared, the first call that uses them has them.
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
        """For every call, whether an output of the model depends on it."""
        needed = [False] * len(self.nodes)
        tensors = {id(tensor) for tensor in outputs}
        for i, node in reversed(list(enumerate(self.nodes))):
            needed[i] = any(id(t) in tensors for t in node.output_tensors)
            if needed[i]:
                tensors |= {id(tensor) for tensor in node.input_tensors}
        return needed

    def crossing(self, i):
        """What is made or given below place i, and needed above it.

        Returns:
            List of `keras.KerasTensor`, and then of `keras.Variable`, tied
            weights that are sent along.
        """
        given = [
            tensor for tensor in self._inputs
            if self._last_use.get(id(tensor), -1) >= i
        ]
        made = [
            tensor for tensor_id, (maker, tensor) in self._made.items()
            if maker < i <= self._last_use.get(tensor_id, -1)
        ]
        sent = [t.variable for t in self.sharing.tied if t.crosses(i)]
        return given + made + sent

    def crossing_sizes(self):
        """Numbers and total elements of what is made below every place."""
        count = np.zeros(len(self.nodes) + 2, np.int64)
        elements = np.zeros(len(self.nodes) + 2, np.int64)
        spans = [
            (maker, self._last_use.get(tensor_id, maker), tensor)
            for tensor_id, (maker, tensor) in self._made.items()
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

    def may_cut(self, ties=True):
        """For every place 0 … n, whether the model may be cut there.

        Args:
            ties: bool, whether weights may be shared by several modules.

        Returns:
            Array of bool.
        """
        allowed = np.ones(len(self.nodes) + 1, bool)
        for _, first, last in self.inseparable(ties):
            allowed[first + 1 : last + 1] = False
        return allowed

    def inseparable(self, ties=True):
        """Calls that must lie in one module, `(operation, first, last)`."""
        spans = list(self.sharing.inseparable)
        if not ties:
            spans += [
                (tied.operation, tied.calls[0], tied.calls[-1])
                for tied in self.sharing.tied
            ]
        return spans

    def places(self, ties=True):
        """As many places as possible at which the model can be cut at once."""
        allowed = self.may_cut(ties)
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
    """The `Graph` of a model, or the one that is given."""
    return model if isinstance(model, Graph) else Graph(model)


@keras.saving.register_keras_serializable("fr_keras")
class UpperModule(Functional):
    """A module whose inputs are the features of another.

    Between layers Keras neither checks shapes nor casts, and some layers
    declare other shapes and dtypes than they make. So it is between modules.
    """

    def _assert_input_compatibility(self, *args):
        pass

    def _convert_inputs_to_tensors(self, flat_inputs):
        return flat_inputs

    def _adjust_input_rank(self, flat_inputs):
        return flat_inputs


def submodel(
    nodes, inputs, outputs, name, batch_size=None, owner=None,
    kind=keras.Model,
):
    """The Functional model of some calls, with what passes through them.

    Args:
        nodes: list of Keras' nodes, every one after those that it needs.
        inputs: nest of `keras.KerasTensor`, and of `keras.Variable` for
            weights that others own, all that the calls need.
        outputs: nest of the same, among what the calls make or need, or
            weights that they own.
        name: str.
        batch_size: int, or `None` for that of `inputs`.
        owner: `fr_keras.tied.Owner`, or `None` if the calls own all of their
            weights.
        kind: class of the model.

    Returns:
        `keras.Model` that shares the layers. It runs all of the calls, those
        too whose outputs nobody needs, as Keras does in a nested model: they
        may have state and losses.
    """
    renewed = {
        id(value): WeightInput(value).output
        if isinstance(value, keras.Variable)
        else input_like(value, batch_size)
        for value in keras.tree.flatten(inputs)
    }
    calls = []
    for i, node in enumerate(nodes):
        operation = node.operation
        args, kwargs = node.arguments.fill_in(renewed)
        if owner is not None:
            operation = owner.operation(i)
            if isinstance(operation, SharedLayer):
                kwargs = {**kwargs, "borrowed": [
                    renewed[id(variable)] for variable in operation.borrowed
                ]}
        made = keras.tree.flatten(operation(*args, **kwargs))
        calls.append(operation._inbound_nodes[-1])
        renewed |= {id(a): b for a, b in zip(node.outputs, made)}
        sent = owner.sent(i) if owner is not None else []
        if sent:
            layer = SentWeights(sent, name=f"{node.operation.name}_weights")
            renewed |= {id(v): w for v, w in zip(sent, layer(made[0]))}
            calls.append(layer._inbound_nodes[-1])

    def renew(value):
        return renewed[id(value)]

    inputs, outputs = (
        keras.tree.map_structure(renew, nest) for nest in (inputs, outputs)
    )
    return functional(calls, inputs, outputs, name, kind)


def functional(calls, inputs, outputs, name=None, kind=keras.Model):
    """The Functional model that makes given calls, in their order.

    Args:
        calls: list of Keras' nodes, every one after those that it needs. All
            of them are made, also if no output depends on them.
        inputs: nest of `keras.KerasTensor`.
        outputs: nest of `keras.KerasTensor`.
        name: str, or `None`.
        kind: class of the model.

    Returns:
        `keras.Model`.
    """
    dead = _not_needed(calls, outputs)
    with _unique_names(inputs, [outputs, dead]):
        model = kind(inputs, [outputs, dead] if dead else outputs, name=name)
    if dead:
        _give_only(model, outputs)
    # Seen from a module's outputs, Keras might choose another order, in which
    # a shared layer would move its state otherwise.
    execute_in_order(model, calls)
    return model


def _not_needed(calls, outputs):
    """The tensors that calls make, and that neither a call nor outputs need."""
    needed = {id(tensor) for tensor in keras.tree.flatten(outputs)} | {
        id(tensor) for node in calls for tensor in node.input_tensors
    }
    return [
        tensor for node in calls for tensor in node.output_tensors
        if not any(id(made) in needed for made in node.output_tensors)
    ]


def _give_only(model, outputs):
    """Lets a Functional model compute all its outputs, but return a few.

    Args:
        model: Functional `keras.Model`.
        outputs: nest of `keras.KerasTensor`, some of its outputs.
    """
    tensors = keras.tree.flatten(outputs)
    # (Not by assignment: Keras would track the lists.)
    vars(model).update(
        _outputs_struct=outputs,
        _outputs=tensors,
        output_names=[
            tensor._keras_history.operation.name for tensor in tensors
        ],
    )


@contextlib.contextmanager
def _unique_names(inputs, outputs):
    """Lets a Functional model have several operations of the same name.

    Layers of different nested models may have equal names. They are the
    user's, so they are only changed while Keras checks them.
    """
    operations, waiting = {}, list(keras.tree.flatten(outputs))
    given = {id(tensor) for tensor in keras.tree.flatten(inputs)}
    done = set()
    while waiting:
        tensor = waiting.pop()
        if id(tensor) in done:
            continue
        done.add(id(tensor))
        operation, index, _ = tensor._keras_history
        operations[id(operation)] = operation
        if id(tensor) not in given:
            waiting.extend(operation._inbound_nodes[index].input_tensors)
    for tensor in keras.tree.flatten(inputs):
        operation = tensor._keras_history.operation
        operations[id(operation)] = operation
    names = collections.Counter(o.name for o in operations.values())
    renamed = [
        (o, o.name) for o in operations.values() if names[o.name] > 1
    ]
    try:
        for i, (operation, name) in enumerate(renamed):
            operation.name = f"{name}_{i}_of_{len(renamed)}"
        yield
    finally:
        for operation, name in renamed:
            operation.name = name


def weights(operation):
    """The weights of a layer; an operation that is no layer has none."""
    return getattr(operation, "weights", ())


def size(shape):
    """Number of elements, dimensions of unknown length counted once."""
    return int(np.prod([dimension or 1 for dimension in shape], dtype=np.int64))
