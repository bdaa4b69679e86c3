"""Custom Keras layers, independent of the algorithms."""

from fr_keras.layers.batch_normalization import FusedBatchNormalization
from fr_keras.layers.position_embedding import PositionEmbedding

__all__ = ["FusedBatchNormalization", "PositionEmbedding"]
