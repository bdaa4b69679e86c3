"""Keras layers of our own; they know nothing of algorithms."""

from fr_keras.layers.batch_normalization import FusedBatchNormalization

__all__ = ["FusedBatchNormalization"]
