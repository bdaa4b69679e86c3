"""Rows of dense layers, embeddings, merges and activations."""

import tempfile

import keras

from tests.differential.layer_cases.calls import frozen, on_list, with_lora

layers = keras.layers


def merge(layer_class, **kwargs):
    return {"": ("pair", lambda: on_list(layer_class(**kwargs)))}


def reversed_embedding(**options):
    def call(x):
        layer = layers.ReversibleEmbedding(9, 4, **options)
        hidden = layers.Dense(4, activation="tanh")(layer(x))
        return layer(hidden, reverse=True)

    return call


def saved_model():
    """A layer that reads its weights from a file."""
    with tempfile.TemporaryDirectory() as folder:
        model = keras.Sequential([keras.Input((6,)), layers.Dense(4)])
        model.export(folder, verbose=False)
        return layers.TFSMLayer(folder, call_endpoint="serve")


ROWS = {
    "Dense": {
        "": ("vector", lambda: layers.Dense(4, activation="tanh")),
        "no bias": ("vector", lambda: layers.Dense(4, use_bias=False)),
        "regularizers": (
            "vector",
            lambda: layers.Dense(
                4, kernel_regularizer="l1l2", bias_regularizer="l2",
                activity_regularizer="l2",
            ),
        ),
        "orthogonal regularizer": (
            "vector",
            lambda: layers.Dense(
                4, kernel_regularizer=(
                    keras.regularizers.OrthogonalRegularizer(0.1)
                ),
            ),
        ),
        "constraints": (
            "vector",
            lambda: layers.Dense(
                4, kernel_constraint="max_norm", bias_constraint="non_neg"
            ),
        ),
        "lora_rank": ("vector", lambda: layers.Dense(4, lora_rank=2)),
        "enable_lora": ("vector", lambda: with_lora(layers.Dense(4))),
        "frozen": ("vector", lambda: frozen(layers.Dense(4))),
        "float32 in a float64 network": (
            "vector", lambda: layers.Dense(4, dtype="float32")
        ),
        "of sequences": ("sequence", lambda: layers.Dense(4)),
        "of masked sequences": ("masked", lambda: layers.Dense(4)),
    },
    "EinsumDense": {
        "": (
            "sequence",
            lambda: layers.EinsumDense("abc,cd->abd", (5, 3), bias_axes="d"),
        ),
        "enable_lora": (
            "sequence",
            lambda: with_lora(
                layers.EinsumDense("abc,cd->abd", (5, 3), bias_axes="d")
            ),
        ),
        "regularizer, constraint": (
            "sequence",
            lambda: layers.EinsumDense(
                "abc,cd->abd", (5, 3), kernel_regularizer="l2",
                kernel_constraint="unit_norm",
            ),
        ),
    },
    "Embedding": {
        "": ("raw tokens", lambda: layers.Embedding(9, 4)),
        "mask_zero": (
            "raw tokens",
            lambda: lambda x: layers.LSTM(3)(
                layers.Embedding(9, 4, mask_zero=True)(x)
            ),
        ),
        "regularizer, constraint": (
            "raw tokens",
            lambda: layers.Embedding(
                9, 4, embeddings_regularizer="l2",
                embeddings_constraint="max_norm",
            ),
        ),
        "enable_lora": (
            "raw tokens", lambda: with_lora(layers.Embedding(9, 4))
        ),
        "frozen": ("raw tokens", lambda: frozen(layers.Embedding(9, 4))),
    },
    "ReversibleEmbedding": {
        "": ("raw tokens", lambda: layers.ReversibleEmbedding(9, 4)),
        "tied": ("raw tokens", lambda: reversed_embedding()),
        "not tied": (
            "raw tokens", lambda: reversed_embedding(tie_weights=False)
        ),
        "mask_zero, soft cap": (
            "raw tokens",
            lambda: reversed_embedding(mask_zero=True, logit_soft_cap=2.0),
        ),
    },
    "Activation": {"": ("vector", lambda: layers.Activation("gelu"))},
    "Identity": {"": ("vector", lambda: layers.Identity())},
    "Lambda": {
        "": ("vector", lambda: layers.Lambda(lambda x: 2 * x)),
        "of a mask": ("masked", lambda: layers.Lambda(
            lambda x, mask: x * keras.ops.cast(mask[..., None], x.dtype),
            output_shape=(5, 4),
        )),
    },
    "Masking": {
        "": (
            "sequence",
            lambda: lambda x: layers.LSTM(3)(
                layers.Masking(0.0)(keras.ops.relu(x - 0.5))
            ),
        ),
    },
    # Merging.
    "Add": merge(layers.Add),
    "Average": merge(layers.Average),
    "Concatenate": merge(layers.Concatenate),
    "Dot": {
        "": ("pair", lambda: on_list(layers.Dot(1))),
        "normalize": (
            "sequences", lambda: on_list(layers.Dot(2, normalize=True))
        ),
    },
    "Maximum": merge(layers.Maximum),
    "Minimum": merge(layers.Minimum),
    "Multiply": merge(layers.Multiply),
    "Subtract": merge(layers.Subtract),
    # Activations.
    "ELU": {"": ("vector", lambda: layers.ELU())},
    "LeakyReLU": {"": ("vector", lambda: layers.LeakyReLU())},
    "PReLU": {
        "": ("vector", lambda: layers.PReLU()),
        "shared_axes": (
            "image",
            lambda: layers.PReLU(shared_axes=[1, 2], alpha_regularizer="l2"),
        ),
    },
    "ReLU": {
        "": ("vector", lambda: layers.ReLU()),
        "options": (
            "vector",
            lambda: layers.ReLU(0.8, negative_slope=0.1, threshold=0.4),
        ),
    },
    "Softmax": {
        "": ("vector", lambda: layers.Softmax()),
        "axis": ("sequence", lambda: layers.Softmax(axis=1)),
    },
    # Of other formats.
    "TFSMLayer": {"": ("vector", saved_model)},
}
