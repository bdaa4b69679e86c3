"""What can be kept: known state, and weights that are finite."""

import logging

from fr_keras.algorithms.trainer import ModuleTrainer
from fr_keras.engine.guard import Spoiled

_logger = logging.getLogger("fr_keras")


def check_model(model):
    """Checks that all state of a model is known.

    Args:
        model: algorithm.

    Raises:
        ValueError: if not.
    """
    if model.optimizer is None:
        raise ValueError(
            "Checkpoints need an optimizer; give one to `compile`. "
            "Received: optimizer=None"
        )
    if model.run_eagerly:
        raise ValueError(
            "Checkpoints need a model whose training is a graph. "
            "Received: run_eagerly=True"
        )
    # What is forgotten would be missed by nobody but the training.
    if _overrides(model, "make_state") and not _overrides(
        model, "state_variables"
    ):
        raise ValueError(
            "An algorithm that makes state must name its variables by "
            f"`state_variables`. Received: {type(model).__name__}"
        )


def _overrides(model, name):
    return getattr(type(model), name) is not getattr(ModuleTrainer, name)


class Weights:
    """The weights of a model that is built, looked through.

    Args:
        model: algorithm, whose modules are built, on workers that are there.
    """

    def __init__(self, model):
        self._of_modules = [
            Spoiled(module.submodel.variables, module.device)
            for module in model.modules_at_work
        ]
        self._has_warned = False

    def are_finite(self):
        """Whether they are; warns of the first that is not, once."""
        for k, of_module in enumerate(self._of_modules, start=1):
            spoiled = of_module.first()
            if spoiled is None:
                continue
            if not self._has_warned:
                _logger.warning(
                    "No checkpoint is written, since '%s' of module %d is not "
                    "finite.", spoiled.path, k,
                )
            self._has_warned = True
            return False
        return True
