"""Checkpoints of whole trainings."""

from fr_keras.checkpoints.checkpoints import Checkpoints
from fr_keras.checkpoints.restoring import CheckpointError
from fr_keras.checkpoints.weights import restore_weights

__all__ = ["CheckpointError", "Checkpoints", "restore_weights"]
