"""State that the layers of a module assign when they are called."""

import keras
import tensorflow as tf

from fr_keras.engine.guard import finite_or_before
from fr_keras.engine.tied import flat_layers


class LayerState:
    """The variables that layers assign when they are called, by their use.

    Args:
        submodel: `keras.layers.Layer`.

    Attributes:
        assigned: list of all of them, known after the first forward pass.
        replayed: list of those whose values in play a replay must use. That is
            all state, above all that of random number generators, except the
            averages of batch normalization, which training only writes, and
            trainable weights, because a replay uses the current ones.
        averages: list of these averages.
        claims: dict from the ids of such variables to the submodel that owns
            them, shared by all modules of a network.
    """

    def __init__(self, submodel):
        self._submodel = submodel
        self.assigned = []
        self.replayed = []
        self.averages = []
        self.claims = {}

    def note(self, assigned, weights):
        """Records what a forward pass has assigned.

        Args:
            assigned: list of `keras.Variable`s.
            weights: list of the module's trainable variables.

        Raises:
            ValueError: if another module assigns one of them, too.
        """
        for variable in assigned:
            owner = self.claims.setdefault(id(variable), self._submodel)
            if owner is not self._submodel:
                raise ValueError(
                    "A variable that layers assign in `call` must belong to "
                    "one module. Keep these layers in one module, or give "
                    "each its own variable. Received: variable "
                    f"'{variable.path}', assigned in modules "
                    f"'{owner.name}' and '{self._submodel.name}'"
                )
        averages = self._written_only()
        others = averages | {id(variable) for variable in weights}
        self.assigned = assigned
        self.replayed = [v for v in assigned if id(v) not in others]
        self.averages = [v for v in assigned if id(v) in averages]

    def _written_only(self):
        """Returns ids of variables that a training pass only writes."""
        return {
            id(variable)
            for layer in flat_layers(self._submodel)
            if isinstance(layer, keras.layers.BatchNormalization)
            and not layer.renorm
            for variable in layer.non_trainable_variables
        }

    def commit(self, moved, guard=None):
        """Assigns new values.

        Args:
            moved: list of `(variable, value)`.
            guard: `fr_keras.engine.guard.Guard`, in whose presence values that
                are not finite are not assigned, or `None`.

        Returns:
            List of tensors, the previous values of `replayed`.
        """
        state = [tf.identity(variable) for variable in self.replayed]
        for variable, value in moved:
            if guard is not None:
                value = finite_or_before(variable, value)
            variable.assign(value)
        return state
