"""The copy of a module in another pipeline."""

import keras

from fr_keras.engine.module import Module


class ModuleCopy(Module):
    """A copy of a module that trains on other examples.

    Its weights, averages and optimizer are those of the original at any time;
    only random numbers differ.

    Args:
        submodel: `keras.layers.Layer`, a copy of the original's submodel.
        device: full device name.
        original: `fr_keras.engine.module.Module`.
        network_copy: `fr_keras.replicas.network_copy.NetworkCopy`, to which
            `submodel` belongs.
    """

    def __init__(self, submodel, device, original, network_copy):
        self._original = original
        self._network_copy = network_copy
        super().__init__(submodel, device)
        self.state.has_copies = True

    def draw_seed(self):
        # Drawing a new one would change those that are drawn later.
        key, _ = keras.ops.convert_to_numpy(self._original.random_state)
        return (int(key) + self._network_copy.number) % 2**32

    @property
    def trainable_variables(self):
        if self._trainable_variables is None:
            self._trainable_variables = [
                self._network_copy.copy_of(variable)
                for variable in self._original.trainable_variables
            ]
        return self._trainable_variables

    def equal_variables(self):
        """Returns the variables that must equal those of the original.

        Returns:
            List of pairs `(a, b)` of `keras.Variable`s, that of the original
            and its copy: weights, averages, and variables of the optimizers.
        """
        random = {id(seed) for seed in self._network_copy.seeds()}
        pairs = [
            (variable, self._network_copy.copy_of(variable))
            for variable in self._original.submodel.variables
        ]
        return [pair for pair in pairs if id(pair[1]) not in random] + list(
            zip(self._original.optimizer.variables, self.optimizer.variables)
        )
