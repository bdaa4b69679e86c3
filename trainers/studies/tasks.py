"""Tasks on which training methods are compared."""

import collections
import dataclasses
import functools
import typing

import keras
import numpy as np
import tensorflow_datasets as tfds

import fr_keras
from trainers.data.datasets import (  # noqa: F401, registers them.
    patterns,
    python_manual,
    signals,
)

layers = keras.layers

_LENGTH = 16  # Characters of a text in one example.
_VOCABULARY = 64


@dataclasses.dataclass(frozen=True)
class Task:
    """A network and its data.

    Networks have at least sixteen blocks, so that they can be split into
    sixteen modules, and no layers that draw random numbers.

    Attributes:
        title: str, for tables.
        make: callable without arguments that makes the network, which outputs
            logits.
        data: callable that takes the directory of prepared datasets and
            returns a `Data`.
        batch_size: int.
        learning_rates: dict from the names of optimizers to floats, roughly
            the best for back-propagation.
    """

    title: str
    make: typing.Callable
    data: typing.Callable
    batch_size: int
    learning_rates: dict


class Data:
    """Examples of a task, as arrays.

    Args:
        train: tuple of arrays, inputs and class numbers.
        validation: the same.
        test: the same.
    """

    def __init__(self, train, validation, test):
        self.train = train
        self.validation = validation
        self.test = test

    def draw(self, random, number):
        """Draws examples to train on.

        Args:
            random: `numpy.random.Generator`.
            number: int.

        Returns:
            Tuple of two arrays with as many rows.
        """
        rows = random.integers(len(self.train[0]), size=number)
        return tuple(array[rows] for array in self.train)


def _arrays(name, data_dir):
    """All examples of a dataset, by split, as dicts of arrays."""
    builder = tfds.builder(name, data_dir=data_dir)
    builder.download_and_prepare()
    found = {}
    for split in ("train", "validation", "test"):
        dataset = builder.as_dataset(split=split).batch(1_000_000)
        (found[split],) = tfds.as_numpy(dataset)
    return found


def _classification(name, feature, scale, data_dir):
    return Data(*(
        (
            np.float32(scale(examples[feature])),
            np.int32(examples["label"]),
        )
        for examples in _arrays(name, data_dir).values()
    ))


def _text(data_dir):
    """Windows at each position of a text, with next characters as targets."""
    texts = {
        split: "\n".join(text.decode() for text in examples["text"])
        for split, examples in _arrays("python_manual", data_dir).items()
    }
    most = collections.Counter(texts["train"]).most_common(_VOCABULARY - 1)
    # Number 0 stands for all other characters.
    numbers = {character: i for i, (character, _) in enumerate(most, start=1)}
    windows = []
    for split, text in texts.items():
        tokens = np.array([numbers.get(c, 0) for c in text], "int32")
        seen = np.lib.stride_tricks.sliding_window_view(tokens, _LENGTH + 1)
        if split != "train":
            seen = seen[::_LENGTH]  # No character is predicted twice.
        windows.append((seen[:, :-1], seen[:, 1:]))
    return Data(*windows)


def _residual_mlp(blocks=16, width=48):
    """Dense blocks with shortcuts, without normalization."""
    inputs = keras.Input((40,))
    x = layers.Dense(width)(inputs)
    for _ in range(blocks):
        y = layers.Dense(
            width, "relu", kernel_initializer="he_normal"
        )(x)
        y = layers.Dense(width, kernel_initializer=_last(blocks))(y)
        x = layers.Add()([x, y])
    return keras.Model(inputs, layers.Dense(10)(x))


def _residual_cnn(blocks=16, width=12):
    """Convolutions with shortcuts, without normalization."""
    inputs = keras.Input((8, 8, 1))
    # Each square of 2×2 pixels becomes one position with four channels.
    x = layers.Reshape((4, 2, 4, 2))(inputs)
    x = layers.Permute((1, 3, 2, 4))(x)
    x = layers.Reshape((4, 4, 4))(x)
    x = Convolution(width)(x)
    for _ in range(blocks):
        y = Convolution(width, "he_normal")(layers.ReLU()(x))
        y = Convolution(width, _last(blocks))(layers.ReLU()(y))
        x = layers.Add()([x, y])
    x = layers.GlobalAveragePooling2D()(layers.ReLU()(x))
    return keras.Model(inputs, layers.Dense(8)(x))


def _transformer(blocks=8, width=16):
    """A decoder-only Transformer with pre-normalization."""
    tokens = keras.Input((_LENGTH,), dtype="int32")
    x = layers.Embedding(_VOCABULARY, width)(tokens)
    x = fr_keras.layers.PositionEmbedding()(x)
    for _ in range(blocks):
        y = layers.LayerNormalization()(x)
        y = layers.MultiHeadAttention(2, width // 2)(
            y, y, use_causal_mask=True
        )
        x = layers.Add()([x, y])
        y = layers.LayerNormalization()(x)
        y = layers.Dense(width)(layers.Dense(4 * width, "gelu")(y))
        x = layers.Add()([x, y])
    x = layers.LayerNormalization()(x)
    return keras.Model(tokens, layers.Dense(_VOCABULARY)(x))


def _last(blocks):
    """Initializer of the last layer of a block, smaller for more blocks."""
    return keras.initializers.VarianceScaling(2 / blocks)


@keras.saving.register_keras_serializable("fr_keras_studies")
class Convolution(layers.Layer):
    """A 3×3 convolution, written as one matrix product.

    Unlike `keras.layers.Conv2D`, it can be computed for many networks at once.

    Args:
        filters: int.
        kernel_initializer: Keras' initializer.
        **kwargs: as for `keras.layers.Layer`.
    """

    def __init__(
        self, filters, kernel_initializer="glorot_uniform", **kwargs
    ):
        super().__init__(**kwargs)
        self.filters = filters
        self.kernel_initializer = keras.initializers.get(kernel_initializer)

    def build(self, input_shape):
        self.kernel = self.add_weight(
            (9 * input_shape[-1], self.filters), self.kernel_initializer,
            name="kernel",
        )
        self.bias = self.add_weight(
            (self.filters,), "zeros", name="bias"
        )

    def call(self, inputs):
        height, width, channels = inputs.shape[1:]
        padded = keras.ops.pad(inputs, [[0, 0], [1, 1], [1, 1], [0, 0]])
        columns = keras.ops.concatenate([
            padded[:, i:i + height, j:j + width]
            for i in range(3) for j in range(3)
        ], -1)
        columns = keras.ops.reshape(columns, (-1, 9 * channels))
        outputs = keras.ops.matmul(columns, self.kernel) + self.bias
        return keras.ops.reshape(outputs, (-1, height, width, self.filters))

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.filters)

    def get_config(self):
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_initializer": keras.initializers.serialize(
                self.kernel_initializer
            ),
        }


TASKS = {
    "signals": Task(
        "residual MLP on signals",
        _residual_mlp,
        functools.partial(
            _classification, "signals", "signal", lambda x: x
        ),
        batch_size=32,
        learning_rates={"sgd": 0.03, "adam": 0.002, "muon": 0.005},
    ),
    "patterns": Task(
        "residual CNN on patterns",
        _residual_cnn,
        functools.partial(
            _classification, "patterns", "image",
            lambda x: (x.astype("float32") - 128) / 40,
        ),
        batch_size=32,
        learning_rates={"sgd": 0.03, "adam": 0.002, "muon": 0.005},
    ),
    "text": Task(
        "Transformer on Python's manual",
        _transformer,
        _text,
        batch_size=16,
        learning_rates={"sgd": 0.3, "adam": 0.015, "muon": 0.015},
    ),
}
