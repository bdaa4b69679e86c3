"""Rows of layers that prepare data, in a model."""

import keras
import numpy as np

from tests.differential import networks
from tests.differential.layer_cases.calls import adapted, encoded, on_list

layers = keras.layers
ROWS = {
    "Rescaling": {"": ("vector", lambda: layers.Rescaling(0.5, 0.1))},
    "Normalization": {
        "": (
            "raw vector",
            lambda: adapted(
                layers.Normalization(), np.arange(18.0).reshape(3, 6)
            ),
        ),
        "given": (
            "vector", lambda: layers.Normalization(mean=0.5, variance=2.0)
        ),
    },
    "Discretization": {
        "": (
            "raw vector",
            lambda: encoded(layers.Discretization([-1.0, 0.0, 0.5, 1.0])),
        ),
        "adapted, one_hot": (
            "raw vector",
            lambda: adapted(
                layers.Discretization(num_bins=4, output_mode="multi_hot"),
                np.linspace(-2, 2, 20).reshape(20, 1),
            ),
        ),
    },
    "CategoryEncoding": {
        "sparse": (
            "raw tokens",
            lambda: layers.CategoryEncoding(9, sparse=True, dtype="int64"),
        ),
        "": ("raw tokens", lambda: layers.CategoryEncoding(9)),
        "count": (
            "raw tokens",
            lambda: layers.CategoryEncoding(9, output_mode="count"),
        ),
    },
    "Hashing": {
        "": ("raw words", lambda: encoded(layers.Hashing(12))),
        "of integers": ("raw tokens", lambda: encoded(layers.Hashing(12))),
    },
    "HashedCrossing": {
        "": (
            "raw crossed", lambda: encoded(on_list(layers.HashedCrossing(12)))
        ),
    },
    "IntegerLookup": {
        "": (
            "raw tokens",
            lambda: encoded(layers.IntegerLookup(vocabulary=[3, 5, 1, 7])),
        ),
        "tf_idf": (
            "raw tokens",
            lambda: layers.IntegerLookup(
                vocabulary=[3, 5, 1, 7], output_mode="tf_idf",
                idf_weights=[0.3, 0.1, 0.7, 0.5],
            ),
        ),
    },
    "StringLookup": {
        "": (
            "raw words",
            lambda: encoded(
                layers.StringLookup(vocabulary=["red", "green", "blue"])
            ),
        ),
        "one_hot": (
            "raw words",
            lambda: layers.StringLookup(
                vocabulary=["red", "green"], output_mode="one_hot"
            ),
        ),
    },
    "TextVectorization": {
        "": (
            "raw words",
            lambda: encoded(
                adapted(
                    layers.TextVectorization(output_sequence_length=4),
                    networks.WORDS,
                )
            ),
        ),
        "tf_idf": (
            "raw words",
            lambda: adapted(
                layers.TextVectorization(output_mode="tf_idf"),
                networks.WORDS,
            ),
        ),
    },
    "STFTSpectrogram": {
        "": (
            "raw signals",
            lambda: layers.STFTSpectrogram(
                "log", frame_length=16, frame_step=8, fft_length=16
            ),
        ),
    },
    "MelSpectrogram": {
        "": (
            "raw signal",
            lambda: layers.MelSpectrogram(
                16, 8, sampling_rate=64, num_mel_bins=4, min_freq=2
            ),
        ),
    },
}
