"""Wiring: the inputs that a module uses, and those that only pass through."""

import keras

from fr_keras.engine import private
from fr_keras.engine.functional import UpperModule, functional
from fr_keras.engine.nested import execution_order, overrides


class Wiring:
    """Routes inputs that are also outputs, unchanged, around a submodel.

    Such tensors are never copied to the module's device, queued or recomputed;
    only their error gradients stop at every module for one iteration, like
    those of the features that the module computes.

    Args:
        submodel: `keras.layers.Layer`. Pass-through tensors are known only for
            a plain Functional model; any other uses all of its inputs and
            computes all of its outputs.
        num_inputs: int, tensors in the input.
        num_outputs: int, tensors in the output.
        is_last: bool, whether the module is the last, around which nothing is
            routed: the loss needs all of its outputs.

    Attributes:
        core: the submodel without its pass-through tensors.
        used: list of the indices of the inputs that the core takes.
        computed: list of the indices of the outputs that the core computes.
        passthrough: dict from the index of an output to that of the input
            passed through to it.
    """

    def __init__(self, submodel, num_inputs, num_outputs, is_last):
        self.used, self.passthrough = find_passthrough(
            submodel, num_inputs, num_outputs, is_last
        )
        self.computed = [
            i for i in range(num_outputs) if i not in self.passthrough
        ]
        self.core = submodel
        if self.passthrough:
            self.core = functional(
                [n for n in execution_order(submodel) if not n.is_input],
                [submodel.inputs[j] for j in self.used],
                [submodel.outputs[i] for i in self.computed],
                kind=UpperModule if isinstance(submodel, UpperModule)
                else keras.Model,
            )

    def output(self, inputs, computed):
        """Returns the output, a list: computed and pass-through tensors."""
        output = dict(zip(self.computed, computed))
        output |= {i: inputs[j] for i, j in self.passthrough.items()}
        return [output[i] for i in range(len(output))]


def find_passthrough(submodel, num_inputs, num_outputs, is_last):
    """Finds which inputs a submodel uses, and which pass through it.

    Args:
        submodel: as for `Wiring`, like the other arguments.
        num_inputs: int.
        num_outputs: int.
        is_last: bool.

    Returns:
        Tuple `(used, passthrough)`, the attributes of `Wiring`.
    """
    used, passthrough = list(range(num_inputs)), {}
    if (
        not is_last and isinstance(submodel, private.Functional)
        and not overrides(submodel, ["call"])
    ):
        position = {id(t): j for j, t in enumerate(submodel.inputs)}
        passthrough = {
            i: position[id(tensor)]
            for i, tensor in enumerate(submodel.outputs)
            if id(tensor) in position
        }
    if passthrough:
        needed = {
            id(tensor)
            for nodes in private.nodes_by_depth(submodel).values()
            for node in nodes
            for tensor in node.input_tensors
        }
        used = [j for j, t in enumerate(submodel.inputs) if id(t) in needed]
    return used, passthrough
