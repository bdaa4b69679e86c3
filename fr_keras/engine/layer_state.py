"""State that the layers of a module assign in `call`."""

import keras
import tensorflow as tf

from fr_keras.engine import private
from fr_keras.engine.guard import finite_or_current
from fr_keras.engine.tied import flat_layers


class LayerState:
    """The variables that layers assign in `call`, by how they are used.

    Args:
        submodel: `keras.layers.Layer`.

    Attributes:
        assigned: list of all of them, known after the first forward pass.
        replayed: list of those for which a replay must use the value that play
            used: all state, in particular that of random number generators,
            except the averages of batch normalization, which training only
            writes, and trainable weights, since a replay uses current weights.
        averages: list of these averages.
        has_copies: bool, whether other pipelines have copies of the submodel.
        random: set of the ids of random states that are not in a layer.
        owners: dict from the ids of such variables to the submodel that assigns
            them, shared by all modules of a network.
    """

    def __init__(self, submodel):
        self._submodel = submodel
        self.assigned = []
        self.replayed = []
        self.averages = []
        self.has_copies = False
        self.random = set()
        self.owners = {}

    def record(self, assigned, weights):
        """Records the variables that a forward pass has assigned.

        Args:
            assigned: list of `keras.Variable`s.
            weights: list of the module's trainable variables.

        Raises:
            ValueError: if another module also assigns one of them, or if the
                module has copies, which would assign something else.
        """
        for variable in assigned:
            owner = self.owners.setdefault(id(variable), self._submodel)
            if owner is not self._submodel:
                raise ValueError(
                    "A variable that layers assign in `call` must belong to "
                    "one module. Keep these layers in one module, or give "
                    "each its own variable. Received: variable "
                    f"'{variable.path}', assigned in modules "
                    f"'{owner.name}' and '{self._submodel.name}'"
                )
        averages = self._written_only()
        excluded = averages | {id(variable) for variable in weights}
        self.assigned = assigned
        self.replayed = [v for v in assigned if id(v) not in excluded]
        self.averages = [v for v in assigned if id(v) in averages]
        if self.has_copies:
            self._check_copies()

    def _check_copies(self):
        """Rejects state that copies of the module could not have in common."""
        averages = {id(variable) for variable in self.averages}
        random = {
            id(generator.state) for layer in flat_layers(self._submodel)
            for generator in private.own_seed_generators(layer)
        }
        for variable in self.assigned:
            if id(variable) not in averages | random | self.random:
                raise ValueError(
                    "With `replicas`, layers may assign random states and the "
                    "averages of batch normalization in `call`, but nothing "
                    "else, which would depend on the examples of one pipeline "
                    "only. Use `replicas=1`. Received: variable "
                    f"'{variable.path}'"
                )

    def _written_only(self):
        """Returns ids of variables that a training pass only writes."""
        return {
            id(variable)
            for layer in flat_layers(self._submodel)
            if isinstance(layer, keras.layers.BatchNormalization)
            and not layer.renorm
            for variable in layer.non_trainable_variables
        }

    def commit(self, state_updates, guard=None):
        """Assigns new values.

        Args:
            state_updates: list of `(variable, value)`.
            guard: `fr_keras.engine.guard.Guard`, or `None`. With a guard,
                non-finite values are not assigned.

        Returns:
            List of tensors, the previous values of `replayed`.
        """
        state = [tf.identity(variable) for variable in self.replayed]
        for variable, value in state_updates:
            if guard is not None:
                value = finite_or_current(variable, value)
            variable.assign(value)
        return state
