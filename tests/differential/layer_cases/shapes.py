"""Rows of pooling, and of other layers that change shapes."""

import keras

layers = keras.layers


def pooling(dimensions, layer_class):
    kind = {1: "sequence", 2: "image", 3: "volume"}[dimensions]
    return {
        "": (kind, lambda: layer_class(2)),
        "strides, padding": (
            kind, lambda: layer_class(3, strides=2, padding="same")
        ),
    }


def adaptive(dimensions, layer_class):
    kind = {1: "sequence", 2: "image", 3: "volume"}[dimensions]
    return {"": (kind, lambda: layer_class(2))}


def global_pooling(dimensions, layer_class):
    kind = {1: "sequence", 2: "image", 3: "volume"}[dimensions]
    return {
        "": (kind, lambda: layer_class()),
        "keepdims": (kind, lambda: layer_class(keepdims=True)),
    }


def random_dimension(dimensions, layer_class):
    kind = {1: "sequence", 2: "image", 3: "volume"}[dimensions]
    return {"": (kind, lambda: layer_class(0.4, seed=3))}


ROWS = {
    **{
        f"{name}{dimensions}D": rows(
            dimensions, getattr(layers, f"{name}{dimensions}D")
        )
        for dimensions in (1, 2, 3)
        for name, rows in {
            "AveragePooling": pooling,
            "MaxPooling": pooling,
            "GlobalAveragePooling": global_pooling,
            "GlobalMaxPooling": global_pooling,
            "AdaptiveAveragePooling": adaptive,
            "AdaptiveMaxPooling": adaptive,
            "SpatialDropout": random_dimension,
        }.items()
    },
    "Cropping1D": {"": ("sequence", lambda: layers.Cropping1D(1))},
    "Cropping2D": {"": ("image", lambda: layers.Cropping2D(1))},
    "Cropping3D": {"": ("volume", lambda: layers.Cropping3D(1))},
    "UpSampling1D": {"": ("sequence", lambda: layers.UpSampling1D(2))},
    "UpSampling2D": {
        "": ("image", lambda: layers.UpSampling2D(2)),
        "bilinear": (
            "image", lambda: layers.UpSampling2D(2, interpolation="bilinear")
        ),
    },
    "UpSampling3D": {"": ("volume", lambda: layers.UpSampling3D(2))},
    "ZeroPadding1D": {"": ("sequence", lambda: layers.ZeroPadding1D(1))},
    "ZeroPadding2D": {"": ("image", lambda: layers.ZeroPadding2D(1))},
    "ZeroPadding3D": {"": ("volume", lambda: layers.ZeroPadding3D(1))},
    "Flatten": {"": ("image", lambda: layers.Flatten())},
    "Permute": {"": ("sequence", lambda: layers.Permute((2, 1)))},
    "RepeatVector": {"": ("vector", lambda: layers.RepeatVector(3))},
    "Reshape": {"": ("vector", lambda: layers.Reshape((2, -1)))},
}
