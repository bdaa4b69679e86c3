"""Checkpoints of whole trainings."""

from fr_keras.checkpoints.checkpoints import CheckpointError, Checkpoints
from fr_keras.checkpoints.weights import restore_weights

__all__ = ["CheckpointError", "Checkpoints", "restore_weights"]
