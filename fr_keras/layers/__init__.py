"""Keras layers of our own; they know nothing of algorithms."""

from fr_keras.layers.batch_normalization import FusedBatchNormalization
from fr_keras.layers.position_embedding import PositionEmbedding

__all__ = ["FusedBatchNormalization", "PositionEmbedding"]
