"""Networks and datasets as users might write them, for `--model`, `--dataset`.

All examples are drawn at random; every dataset has 3 classes.
"""

import keras
import numpy as np
import tensorflow as tf
from keras import layers

NUM_CLASSES = 3
LENGTH = 6


def _split(make):
    """Two datasets of what `make`, given a random generator and a size, makes.
    """
    return tuple(
        tf.data.Dataset.from_tensor_slices(make(np.random.default_rng(i), size))
        for i, size in enumerate((20, 8))
    ) + (NUM_CLASSES,)


def _labels(random, *shape):
    return random.integers(0, NUM_CLASSES, shape)


def images():
    """Colour images of 32x32."""
    return _split(lambda random, n: (
        random.normal(size=(n, 32, 32, 3)).astype("float32"),
        _labels(random, n),
    ))


def weighted():
    """The same with weights of examples."""
    return _split(lambda random, n: (
        random.normal(size=(n, 32, 32, 3)).astype("float32"),
        _labels(random, n), random.uniform(size=n).astype("float32"),
    ))


def masks():
    """Gray images of 16x16, with a class for each pixel."""
    return _split(lambda random, n: (
        random.normal(size=(n, 16, 16, 1)).astype("float32"),
        _labels(random, n, 16, 16),
    ))


def series():
    """Sequences of two numbers per step."""
    return _split(lambda random, n: (
        random.normal(size=(n, LENGTH, 2)).astype("float32"),
        _labels(random, n),
    ))


def tokens():
    """Sequences of tokens, each to be predicted from those before it."""
    return _split(lambda random, n: (
        _labels(random, n, LENGTH), _labels(random, n, LENGTH)
    ))


def hub_tokens():
    """The same, as KerasHub's models take them."""
    return _split(lambda random, n: (
        {
            "token_ids": _labels(random, n, LENGTH).astype("int32"),
            "padding_mask": np.ones((n, LENGTH), "int32"),
        },
        _labels(random, n, LENGTH),
    ))


def pairs():
    """Two inputs."""
    return _split(lambda random, n: (
        {
            "a": random.normal(size=(n, 4)).astype("float32"),
            "b": random.normal(size=(n, 5)).astype("float32"),
        },
        _labels(random, n),
    ))


@keras.saving.register_keras_serializable("own_experiments")
class Flat(layers.Flatten):
    """A layer that only this module defines."""


def dense(input_shape, num_classes, width=8):
    return keras.Sequential([
        keras.Input(input_shape), Flat(),
        *(layers.Dense(width, activation="relu") for _ in range(4)),
        layers.Dense(num_classes),
    ])


def with_softmax(input_shape, num_classes):
    return keras.Sequential([
        keras.Input(input_shape), *dense(input_shape, num_classes).layers,
        layers.Softmax(),
    ])


def unet(input_shape, num_classes):
    inputs = keras.Input(input_shape)
    first = layers.Conv2D(4, 3, padding="same", activation="relu")(inputs)
    x = layers.MaxPooling2D()(first)
    x = layers.Conv2D(8, 3, padding="same", activation="relu")(x)
    x = layers.Conv2DTranspose(4, 2, 2)(x)
    x = layers.Concatenate()([x, first])
    x = layers.Conv2D(4, 3, padding="same", activation="relu")(x)
    return keras.Model(inputs, layers.Conv2D(num_classes, 1)(x))


def lstm(input_shape, num_classes):
    inputs = keras.Input(input_shape)
    x = layers.LSTM(6, return_sequences=True)(inputs)
    x = layers.LSTM(6)(layers.Dense(6)(x))
    return keras.Model(inputs, layers.Dense(num_classes)(x))


def for_larger_images(num_classes):
    return keras.Sequential([
        keras.Input((64, 64, 3)), layers.Conv2D(4, 3),
        layers.GlobalAveragePooling2D(), layers.Dense(num_classes),
    ])


def for_integers(num_classes):
    return keras.Sequential([
        keras.Input((32, 32, 3), dtype="int32"), layers.Flatten(),
        layers.Dense(4), layers.Dense(num_classes),
    ])


def two_inputs(num_classes):
    a, b = keras.Input((4,), name="a"), keras.Input((5,), name="b")
    x = layers.Dense(8, activation="relu")(a)
    y = layers.Dense(8, activation="relu")(b)
    x = layers.Dense(8, activation="relu")(layers.Add()([x, y]))
    return keras.Model({"a": a, "b": b}, layers.Dense(num_classes)(x))


class Subclassed(keras.Model):
    def call(self, x):
        return x


def no_graph():
    return Subclassed()


def broken():
    raise RuntimeError("out of ideas")


def no_dataset():
    return [1, 2]


def batches():
    train, test, num_classes = images()
    return train.batch(2), test.batch(2), num_classes


def wrong_labels():
    train, test, _ = images()
    return train, test, 2


def unknown_size():
    train, test, num_classes = images()
    return train.filter(lambda x, y: True), test, num_classes
