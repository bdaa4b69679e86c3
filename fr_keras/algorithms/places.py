"""The places of modules: their devices, or where their weights came from."""

import tensorflow as tf

from fr_keras.engine import holdings, placement


class Places:
    """Moves modules to their devices, and back to their original places.

    Args:
        modules: list of `fr_keras.engine.module.Module`.
        parts: list of layers, the network or the given modules.
        remember: bool, whether the modules can go back.

    Attributes:
        are_original: bool, whether the modules are in their original places.
    """

    def __init__(self, modules, parts, remember):
        self._modules = modules
        self._parts = parts
        self._originals = None
        if remember:
            self._originals = [
                (variable, variable.value.device)
                for part in parts for variable in holdings.variables(part)
            ]
        self.are_original = False

    def forget_originals(self):
        """Gives up the original places."""
        self._originals = None

    def take_to_devices(self):
        """Moves the modules to their devices, if they are elsewhere."""
        for module in self._modules:
            placement.move([module.submodel], module.device)
        self._forget_functions()
        self.are_original = False

    def take_back(self):
        """Moves the modules to their original places, if these are known.

        Returns:
            bool, whether they are known.
        """
        if self._originals is None:
            return False
        placement.put(self._originals)
        self._forget_functions()
        self.are_original = True
        return True

    def _forget_functions(self):
        for part in self._parts:
            placement.forget_functions(part)

    def check(self):
        """Checks that no other model has moved the modules elsewhere.

        Raises:
            ValueError: if one has.
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
