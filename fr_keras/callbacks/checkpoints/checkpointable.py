"""Checks whether a model can be saved: known state and finite weights."""

import logging

from fr_keras.algorithms.pipeline import BasePipeline
from fr_keras.engine.guard import NonFiniteVariables

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
            "Checkpoints need an optimizer; pass one to `compile`. "
            "Received: optimizer=None"
        )
    if model.run_eagerly:
        raise ValueError(
            "Checkpoints need a model that trains in graphs; compile it "
            "without `run_eagerly`. "
            "Received: run_eagerly=True"
        )
    # Missing state would go unnoticed and spoil the resumed training.
    if _overrides(model, "make_state") and not _overrides(
        model, "state_variables"
    ):
        raise ValueError(
            "A pipeline that implements `make_state` must also implement "
            "`state_variables`, so that its state can be saved. "
            f"Received: {type(model.pipeline).__name__}"
        )


def _overrides(model, name):
    own = getattr(type(model.pipeline), name)
    return own is not getattr(BasePipeline, name)


class Weights:
    """Checks the weights of a built model.

    Args:
        model: algorithm with built modules, on workers that respond.
    """

    def __init__(self, model):
        self._of_modules = [
            NonFiniteVariables(module.submodel.variables, module.device)
            for module in model.pipeline.modules
        ]
        self._has_warned = False

    def are_finite(self):
        """Whether all are finite; warns once of the first that is not."""
        for k, of_module in enumerate(self._of_modules, start=1):
            spoiled = of_module.first()
            if spoiled is None:
                continue
            if not self._has_warned:
                _logger.warning(
                    "No checkpoint is written, because '%s' of module %d is "
                    "not finite", spoiled.path, k,
                )
            self._has_warned = True
            return False
        return True
