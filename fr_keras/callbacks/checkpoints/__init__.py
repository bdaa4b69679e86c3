"""Checkpoints of the whole state of training."""

from fr_keras.callbacks.checkpoints.checkpoints import Checkpoints
from fr_keras.callbacks.checkpoints.restoring import CheckpointError
from fr_keras.callbacks.checkpoints.weights import restore_weights

__all__ = ["CheckpointError", "Checkpoints", "restore_weights"]
