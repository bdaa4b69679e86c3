"""Moves modules to their devices, and back to their original places."""

import tensorflow as tf

from fr_keras.engine import layer_variables, placement


class Places:
    """The devices of modules, and the places where their weights came from.

    Args:
        modules: list of `fr_keras.engine.module.Module`, all copies included.
        parts: list of layers, the network or the given modules.
        remember: bool, whether to remember the original places.

    Attributes:
        are_restored: bool, whether the modules are in their original places.
    """

    def __init__(self, modules, parts, remember):
        self._modules = modules
        self._parts = parts
        self._originals = None
        if remember:
            self._originals = [
                (variable, variable.value.device)
                for part in parts
                for variable in layer_variables.all_variables(part)
            ]
        self.are_restored = False

    def forget_originals(self):
        """Forgets the original places, so that `restore` does nothing."""
        self._originals = None

    def move_to_devices(self):
        """Moves the modules to their devices, if they are elsewhere."""
        for module in self._modules:
            placement.move([module.submodel], module.device)
        self._reset_functions()
        self.are_restored = False

    def restore(self):
        """Moves the modules back to their original places, if known.

        Returns:
            bool, whether the original places are known.
        """
        if self._originals is None:
            return False
        placement.move_variables(self._originals)
        self._reset_functions()
        self.are_restored = True
        return True

    def _reset_functions(self):
        for part in self._parts:
            placement.reset_functions(part)

    def check(self):
        """Checks that the modules are on their devices.

        Raises:
            ValueError: if another model has moved one elsewhere.
        """
        for k, module in enumerate(self._modules, start=1):
            stay = placement.immovable(module.submodel)
            for variable in module.submodel.variables:
                if variable.value.device != module.device and (
                    id(variable) not in stay
                ):
                    raise ValueError(
                        f"Module {k} must be on {module.device}, but another "
                        "model that shares its layers has moved it. Call "
                        "`compile` to move it back. Received: variable "
                        f"'{variable.path}' on {variable.value.device}"
                    )


def check_no_strategy():
    """Raises an error in the scope of a `tf.distribute` strategy."""
    if tf.distribute.has_strategy():
        raise ValueError(
            "Modules are placed by `devices`, not by a tf.distribute "
            "strategy. Use the model outside of `strategy.scope()`. "
            f"Received: strategy={tf.distribute.get_strategy()!r}"
        )
