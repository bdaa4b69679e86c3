"""Rows of normalization and of regularization."""

import keras

from tests.differential.layer_cases.calls import frozen, twice

layers = keras.layers
ROWS = {
    # Normalization.
    "BatchNormalization": {
        "": ("vector", lambda: layers.BatchNormalization()),
        "of images": (
            "image", lambda: layers.BatchNormalization(momentum=0.7)
        ),
        "masked": ("masked", lambda: layers.BatchNormalization()),
        "renorm": (
            "vector",
            lambda: layers.BatchNormalization(
                renorm=True, renorm_clipping={"rmax": 2.0, "dmax": 1.0}
            ),
        ),
        "synchronized": (
            "vector", lambda: layers.BatchNormalization(synchronized=True)
        ),
        "frozen": ("vector", lambda: frozen(layers.BatchNormalization())),
        "training=False": (
            "vector",
            lambda: lambda x: layers.BatchNormalization()(x, training=False),
        ),
        "training=True": (
            "vector",
            lambda: lambda x: layers.BatchNormalization()(x, training=True),
        ),
        "called twice": ("vector", lambda: twice(layers.BatchNormalization())),
        "no center, no scale": (
            "vector",
            lambda: layers.BatchNormalization(center=False, scale=False),
        ),
        "regularizer, constraint": (
            "vector",
            lambda: layers.BatchNormalization(
                gamma_regularizer="l2", beta_constraint="non_neg"
            ),
        ),
    },
    "LayerNormalization": {
        "": ("vector", lambda: layers.LayerNormalization()),
        "axes": ("sequence", lambda: layers.LayerNormalization(axis=[1, 2])),
    },
    "RMSNormalization": {"": ("vector", lambda: layers.RMSNormalization())},
    "GroupNormalization": {
        "": ("image", lambda: layers.GroupNormalization(3)),
        "instances": ("image", lambda: layers.GroupNormalization(-1)),
    },
    "UnitNormalization": {"": ("vector", lambda: layers.UnitNormalization())},
    "SpectralNormalization": {
        "": (
            "vector", lambda: layers.SpectralNormalization(layers.Dense(4))
        ),
        "of a convolution": (
            "image",
            lambda: layers.SpectralNormalization(
                layers.Conv2D(2, 2), power_iterations=2
            ),
        ),
        "called twice": (
            "vector",
            lambda: twice(layers.SpectralNormalization(layers.Dense(6))),
        ),
    },
    # Regularization.
    "ActivityRegularization": {
        "": ("vector", lambda: layers.ActivityRegularization(0.01, 0.02))
    },
    "AlphaDropout": {"": ("vector", lambda: layers.AlphaDropout(0.4, seed=3))},
    "Dropout": {
        "": ("vector", lambda: layers.Dropout(0.4, seed=3)),
        "noise_shape": (
            "sequence",
            lambda: layers.Dropout(0.4, noise_shape=(None, 1, 4), seed=3),
        ),
        "without a seed": ("vector", lambda: layers.Dropout(0.4)),
        "called twice": (
            "vector", lambda: twice(layers.Dropout(0.4, seed=3))
        ),
        "training=True": (
            "vector",
            lambda: lambda x: layers.Dropout(0.4, seed=3)(x, training=True),
        ),
    },
    "GaussianDropout": {
        "": ("vector", lambda: layers.GaussianDropout(0.4, seed=3))
    },
    "GaussianNoise": {
        "": ("vector", lambda: layers.GaussianNoise(0.4, seed=3))
    },
}
