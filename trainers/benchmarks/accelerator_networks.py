"""The networks that are measured on accelerators, with a batch for each."""

import keras
import numpy as np
import tensorflow as tf

import fr_keras


def _image_classifier(batch_size):
    network = keras.applications.ResNet50(
        weights=None, classifier_activation=None
    )
    return network, _images(batch_size, 224, 1000)


def _small_image_classifier(batch_size):
    return fr_keras.models.resnet(20, 10, (32, 32, 3)), _images(
        batch_size, 32, 10
    )


def _images(batch_size, size, num_classes):
    rng = np.random.default_rng(0)
    return (
        rng.normal(size=(batch_size, size, size, 3)).astype("float32"),
        rng.integers(0, num_classes, batch_size),
    )


def _language_model(depth, width, vocabulary_size, length, batch_size):
    """The network, and sequences of tokens with the next of each."""
    network = fr_keras.models.transformer(
        depth, width, width // 64, vocabulary_size, length
    )
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, vocabulary_size, (batch_size, length + 1))
    return network, (tokens[:, :-1].astype("int32"), tokens[:, 1:])


# Name: what makes it and a batch of it, and the examples of a batch unless
# others are asked for.
_NETWORKS = {
    # He et al. (2016), 224 x 224 pixels.
    "resnet50": (_image_classifier, 64),
    # Of the size of GPT-2 small (Radford et al., 2019).
    "transformer": (
        lambda batch: _language_model(12, 768, 50_257, 512, batch), 8
    ),
    # For machines without an accelerator.
    "small_resnet": (_small_image_classifier, 32),
    "small_transformer": (
        lambda batch: _language_model(4, 64, 1000, 64, batch), 8
    ),
}
NETWORKS = tuple(_NETWORKS)


def default():
    """The names of those that suit this machine, a list."""
    if tf.config.list_physical_devices("GPU"):
        return ["resnet50", "transformer"]
    return ["small_resnet", "small_transformer"]


def batch_size_of(name):
    """The number of examples in a batch of a network, unless told."""
    return _NETWORKS[name][1]


def build(name, batch_size):
    """Makes a network, with the same weights every time, and a batch.

    Args:
        name: str, one of `NETWORKS`.
        batch_size: int.

    Returns:
        Tuple of a `keras.Model` and a pair of arrays.
    """
    keras.utils.set_random_seed(0)
    return _NETWORKS[name][0](batch_size)
