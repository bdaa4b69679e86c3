"""Functional models built from existing calls, sharing their layers."""

import collections
import contextlib

import keras

from fr_keras.engine import private
from fr_keras.engine.nested import execute_in_order, input_like
from fr_keras.engine.tied import SentWeights, SharedLayer, WeightInput


@keras.saving.register_keras_serializable("fr_keras")
class UpperModule(private.Functional):
    """A module whose inputs are the features of another.

    Some layers return other shapes and dtypes than they declare. Between
    layers, Keras neither checks shapes nor casts, so this class does not do so
    between modules.
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
    """Builds a Functional model of some calls, with pass-through tensors.

    Args:
        nodes: list of Keras nodes, each after those it depends on.
        inputs: nest of `keras.KerasTensor` and, for weights owned by other
            modules, `keras.Variable`: everything that the calls need.
        outputs: nest of the same kind: tensors that the calls compute or need,
            or weights that they own.
        name: str.
        batch_size: int, or `None` for that of `inputs`.
        owner: `tied.Owner`, or `None` if the calls own all of their
            weights.
        kind: class of the model.

    Returns:
        `keras.Model` that shares the layers. It runs all calls, even those
        whose outputs are unused, as Keras does in a nested model: they may
        have state and losses.
    """
    replacements = {
        id(value): WeightInput(value).output
        if isinstance(value, keras.Variable)
        else input_like(value, batch_size)
        for value in keras.tree.flatten(inputs)
    }
    calls = []
    for i, node in enumerate(nodes):
        operation = node.operation
        args, kwargs = node.arguments.fill_in(replacements)
        if owner is not None:
            operation = owner.operation(i)
            if isinstance(operation, SharedLayer):
                kwargs = {**kwargs, "borrowed": [
                    replacements[id(variable)]
                    for variable in operation.borrowed
                ]}
        results = keras.tree.flatten(operation(*args, **kwargs))
        calls.append(private.calls_of(operation)[-1])
        replacements |= {id(a): b for a, b in zip(node.outputs, results)}
        sent = owner.sent(i) if owner is not None else []
        if sent:
            layer = SentWeights(sent, name=f"{node.operation.name}_weights")
            replacements |= {id(v): w for v, w in zip(sent, layer(results[0]))}
            calls.append(private.calls_of(layer)[-1])

    def replace(value):
        return replacements[id(value)]

    inputs, outputs = (
        keras.tree.map_structure(replace, nest) for nest in (inputs, outputs)
    )
    return functional(calls, inputs, outputs, name, kind)


def functional(calls, inputs, outputs, name=None, kind=keras.Model):
    """Builds the Functional model that runs given calls in order.

    Args:
        calls: list of Keras nodes, each after those it depends on. All of
            them are run, even if no output depends on them.
        inputs: nest of `keras.KerasTensor`.
        outputs: nest of `keras.KerasTensor`.
        name: str, or `None`.
        kind: class of the model.

    Returns:
        `keras.Model`.
    """
    unused = _unused_results(calls, outputs)
    with _unique_names(inputs, [outputs, unused]):
        model = kind(
            inputs, [outputs, unused] if unused else outputs, name=name
        )
    if unused:
        private.set_outputs(model, outputs)
    # Keras derives the order from the outputs of the model, so it may differ in
    # a module, which would change how a shared layer's state evolves.
    execute_in_order(model, calls)
    return model


def _unused_results(calls, outputs):
    """Returns the results of calls that neither a call nor an output needs."""
    needed = {id(tensor) for tensor in keras.tree.flatten(outputs)} | {
        id(tensor) for node in calls for tensor in node.input_tensors
    }
    return [
        tensor for node in calls for tensor in node.output_tensors
        if not any(id(result) in needed for result in node.output_tensors)
    ]


@contextlib.contextmanager
def _unique_names(inputs, outputs):
    """Lets a Functional model have several operations with the same name.

    Layers of different nested models may have equal names. The names belong to
    the user, so they are only changed while Keras checks them.
    """
    operations, waiting = {}, list(keras.tree.flatten(outputs))
    given = {id(tensor) for tensor in keras.tree.flatten(inputs)}
    done = set()
    while waiting:
        tensor = waiting.pop()
        if id(tensor) in done:
            continue
        done.add(id(tensor))
        operation, index, _ = private.history_of(tensor)
        operations[id(operation)] = operation
        if id(tensor) not in given:
            waiting.extend(private.calls_of(operation)[index].input_tensors)
    for tensor in keras.tree.flatten(inputs):
        operation = private.history_of(tensor).operation
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
