"""Plain Keras models, independent of the algorithms."""

from fr_keras.models.resnet import RESNET_DEPTHS, resnet
from fr_keras.models.synthesizer import synthesizer
from fr_keras.models.transformer import transformer

__all__ = ["RESNET_DEPTHS", "resnet", "synthesizer", "transformer"]
