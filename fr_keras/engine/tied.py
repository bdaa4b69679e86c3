"""Tied weights: a module sends weights to other modules that use them.

The first module whose layers use them owns them: it keeps them on its device
and updates them. For the other modules, their values are features like any
other: they are sent up with each mini-batch, and their error gradient comes
down.
"""

import keras
import tensorflow as tf

from fr_keras.engine import private
from fr_keras.engine.call_scope import LendingScope


class WeightInput(keras.layers.InputLayer):
    """An input through which a module receives weights of another.

    Args:
        variable: `keras.Variable`.
    """

    def __init__(self, variable):
        super().__init__(
            batch_shape=tuple(variable.shape),
            dtype=variable.dtype,
            name=f"{variable.path.replace('/', '_')}_input",
        )


class SentWeights(keras.layers.Layer):
    """Outputs weights of another layer as features.

    Args:
        variables: list of `keras.Variable` that belong to another layer.
    """

    def __init__(self, variables, name=None):
        # Keep the dtype of the variables, whatever the compute dtype.
        super().__init__(name=name, autocast=False)
        private.disable_input_conversion(self)
        self._untracked = _Untracked(variables)

    def call(self, inputs):
        """Returns the weights.

        Args:
            inputs: tensor, not used, but Keras' graphs require an input.

        Returns:
            List of tensors, the values of the variables.
        """
        del inputs
        return [
            tf.identity(variable.value) for variable in self._untracked.value
        ]

    def compute_output_spec(self, inputs):
        del inputs
        return [
            keras.KerasTensor(tuple(variable.shape), variable.dtype)
            for variable in self._untracked.value
        ]

    def compute_mask(self, inputs, previous_mask):
        return None


class SharedLayer(keras.layers.Layer):
    """A layer in a module that does not own all of its variables.

    Args:
        layer: `keras.layers.Layer`, built.
        owned: list of its variables that belong to this module.
        borrowed: list of its variables whose values come from another module.
    """

    def __init__(self, layer, owned, borrowed):
        super().__init__(name=layer.name, autocast=False)
        self.supports_jit = layer.supports_jit
        private.disable_input_conversion(self)
        self._allow_non_tensor_positional_args = True
        # If tracked, the layer would add all of its variables.
        self._untracked = _Untracked((layer, borrowed))
        self.owned = list(owned)

    @property
    def layer(self):
        """The wrapped layer."""
        return self._untracked.value[0]

    @property
    def borrowed(self):
        """List of the variables whose values come from another module."""
        return self._untracked.value[1]

    def call(self, *args, borrowed, **kwargs):
        """Calls the layer.

        Args:
            *args: arguments of the layer.
            borrowed: list of tensors, the values of the borrowed variables.
            **kwargs: arguments of the layer.

        Returns:
            The output of the layer.
        """
        values = [
            (variable, tf.ensure_shape(value, variable.shape))
            for variable, value in zip(self.borrowed, borrowed)
        ]
        with LendingScope(values, self.layer):
            return self.layer(*args, **kwargs)

    def compute_output_spec(self, *args, borrowed, **kwargs):
        del borrowed
        return self.layer.compute_output_spec(*args, **kwargs)

    def compute_mask(self, inputs, previous_mask):
        return None  # The wrapped layer has set it.


class Owner:
    """Assigns shared weights to the module that owns or borrows them.

    Args:
        graph: `fr_keras.cutting.graph.Graph`.
        start: int, the number of the module's first call.
        stop: int, the number of the first call after it.
    """

    def __init__(self, graph, start, stop):
        self._graph = graph
        self._start = start
        sharing = graph.sharing
        owned = {
            id(variable)
            for i in range(start, stop) for variable in sharing.owned(i)
        }
        borrowed = {}
        for i in range(start, stop):
            operation = id(graph.nodes[i].operation)
            for variable in sharing.borrowed(i):
                if id(variable) not in owned:
                    of_operation = borrowed.setdefault(operation, {})
                    of_operation[id(variable)] = variable
        self._operations = {}
        for i in range(start, stop):
            operation = graph.nodes[i].operation
            if id(operation) in self._operations:
                continue
            mine = [v for v in sharing.held(i) if id(v) in owned]
            self._operations[id(operation)] = (
                operation if len(mine) == len(sharing.held(i))
                else SharedLayer(
                    operation, mine,
                    list(borrowed.get(id(operation), {}).values()),
                )
            )
        self._sent = {
            tied.calls[0]: [] for tied in sharing.tied
        }
        for tied in sharing.tied:
            if tied.crosses(stop):
                self._sent[tied.calls[0]].append(tied.variable)

    def operation(self, i):
        """Returns the operation that the module uses for its i-th call."""
        operation = self._graph.nodes[self._start + i].operation
        return self._operations[id(operation)]

    def sent(self, i):
        """Returns the variables of its i-th call sent up to other modules."""
        return self._sent.get(self._start + i, [])


def is_weight(tensor):
    """Whether a symbolic tensor at a boundary is the value of a weight.

    Args:
        tensor: `keras.KerasTensor`.

    Returns:
        bool.
    """
    history = private.history_of(tensor)
    return history is not None and isinstance(
        history.operation, (SentWeights, WeightInput)
    )


def flat_layers(module):
    """Returns a module and all layers in it, including shared ones.

    Args:
        module: `keras.layers.Layer`.

    Returns:
        List of `keras.layers.Layer`.
    """
    layers = []
    for layer in private.sublayers(module):
        layers.append(layer)
        if isinstance(layer, SharedLayer):
            layers.extend(flat_layers(layer.layer))
    return layers


class _Untracked:
    """Hides a reference from Keras, which would track its variables."""

    def __init__(self, value):
        self.value = value
