"""Plain Keras models; they know nothing of algorithms."""

from fr_keras.models.resnet import RESNET_DEPTHS, resnet

__all__ = ["RESNET_DEPTHS", "resnet"]
