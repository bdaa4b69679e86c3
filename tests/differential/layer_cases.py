"""Every layer of Keras with options that matter, each in a small network.

A row of `LAYERS` is the name of a class, and for it a dict from the name of an
option to `(kind, make)`: a kind of network (`networks.KINDS`), and a function
that makes what is called there. To add an option, add a row; random layers need
a seed. A class without a row, as of a later version of Keras, is tried in every
kind of network that it may fit; where it fits none, the test asks for a row, or
for a reason in `LEFT_OUT`.
"""

import inspect
import tempfile

import keras
import numpy as np

from tests.differential import networks
from tests.differential.harness import Case, fit_and_call

layers = keras.layers

LEFT_OUT = {
    "Layer": "the base class: it has no `call`",
    "Wrapper": "the base class of wrappers: it has no `call`",
    "InputLayer": "the input of every network here",
    "MaxNumBoundingBoxes": "changes labels of images, in data, not in a model",
    "AugMix": "chooses by Python's `random`, whenever it is traced, what it "
    "does from then on: another number of traces is another layer",
    "FlaxLayer": "needs JAX",
    "JaxLayer": "needs JAX",
    "TorchModuleWrapper": "needs PyTorch as Keras' backend",
}
OPTIONS_LEFT_OUT = {
    "quantize('int8'), quantization_config": "quantized kernels have no "
    "gradient; Keras trains no such layer but by `enable_lora`",
    "TextVectorization(ragged=True)": "Keras' own layers take no ragged tensor",
    "data_format='channels_first'": "TensorFlow has no such kernels on a CPU",
    "flash_attention=True": "not with the TensorFlow backend",
    "BatchNormalization(synchronized=True) over replicas": "needs a strategy, "
    "which the library refuses; without one it is tested",
}


# These compute nothing in float64, by TensorFlow's kernels or Keras' constants.
_FLOAT32 = {
    "AdaptiveAveragePooling3D", "AdaptiveMaxPooling3D", "AveragePooling3D",
    "MaxPooling3D", "MelSpectrogram", "RandAugment",
    "RandomRotation", "TFSMLayer",
}


def classes():
    """All layers of `keras.layers`, each once: a dict from name to class."""
    found = [getattr(layers, name) for name in dir(layers)]
    return {
        found_class.__name__: found_class
        for found_class in found
        if inspect.isclass(found_class)
        and issubclass(found_class, keras.layers.Layer)
    }


def on_list(layer):
    """Calls a layer with a list of tensors."""
    return lambda *tensors: layer([*tensors])


def on_itself(layer, **kwargs):
    """Calls an attention layer with one tensor for all it takes."""
    return lambda x: layer(x, x, **kwargs)


def with_lora(layer):
    def call(x):
        outputs = layer(x)
        layer.enable_lora(2)
        return outputs

    return call


def frozen(layer):
    layer.trainable = False
    return layer


def adapted(layer, values):
    layer.adapt(np.asarray(values))
    return layer


def saved_model():
    """A layer that reads its weights from a file."""
    with tempfile.TemporaryDirectory() as folder:
        model = keras.Sequential([keras.Input((6,)), layers.Dense(4)])
        model.export(folder, verbose=False)
        return layers.TFSMLayer(folder, call_endpoint="serve")


def from_state(layer):
    """A recurrent layer that begins with the last state of another."""
    first = layer.__class__.from_config(
        {**layer.get_config(), "name": "first", "return_state": True}
    )

    def call(x):
        _, *state = first(x)
        return layer(x, initial_state=state)

    return call


SMALL_IMAGE = {"value_range": (0, 1), "seed": 3}


def merge(layer_class, **kwargs):
    return {"": ("pair", lambda: on_list(layer_class(**kwargs)))}


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


def convolution(kind, layer_class):
    rows = {
        "": (kind, lambda: layer_class(3, 2, activation="relu")),
        "strides, no bias": (
            kind,
            lambda: layer_class(2, 2, 2, padding="same", use_bias=False),
        ),
    }
    if "regularizer" in str(inspect.signature(layer_class)):
        rows["regularizers, constraints"] = (
            kind,
            lambda: layer_class(
                2, 2, bias_regularizer="l2", activity_regularizer="l2",
                bias_constraint=keras.constraints.MaxNorm(0.01),
            ),
        )
    return rows


def recurrent(layer_class):
    rows = {
        "": ("sequence", lambda: layer_class(3)),
        "return_sequences": (
            "sequence", lambda: layer_class(3, return_sequences=True)
        ),
        "return_state": (
            "sequence", lambda: layer_class(3, return_state=True)
        ),
        "stateful": (
            "stateful",
            lambda: layer_class(3, stateful=True, return_sequences=True),
        ),
        "masked": (
            "masked", lambda: layer_class(3, return_sequences=True)
        ),
        "masked, zero_output_for_mask": (
            "masked",
            lambda: layer_class(
                3, return_sequences=True, zero_output_for_mask=True
            ) if layer_class is not layers.SimpleRNN else layer_class(3),
        ),
        "dropout": (
            "sequence",
            lambda: layer_class(3, dropout=0.3, recurrent_dropout=0.3, seed=4),
        ),
        "initial_state": ("sequence", lambda: from_state(layer_class(3))),
        "go_backwards, unroll": (
            "sequence", lambda: layer_class(3, go_backwards=True, unroll=True)
        ),
        "regularizers, constraints": (
            "sequence",
            lambda: layer_class(
                3, kernel_regularizer="l2", recurrent_regularizer="l2",
                bias_regularizer="l2", activity_regularizer="l2",
                recurrent_constraint=keras.constraints.UnitNorm(),
            ),
        ),
    }
    return rows


def cell(cell_class):
    return {
        "": ("sequence", lambda: layers.RNN(cell_class(3))),
        "dropout": (
            "sequence",
            lambda: layers.RNN(
                cell_class(3, dropout=0.3, recurrent_dropout=0.3, seed=4),
                return_sequences=True,
            ),
        ),
    }


def image(make):
    """Rows of a layer that changes images, in front of and inside a network."""
    return {
        "": ("image", make),
        "at the input": ("raw image", make),
    }


def random_dimension(dimensions, layer_class):
    kind = {1: "sequence", 2: "image", 3: "volume"}[dimensions]
    return {"": (kind, lambda: layer_class(0.4, seed=3))}


def encoded(layer):
    """Integers, through an embedding."""
    return lambda *x: layers.Embedding(12, 3)(layer(*x))


LAYERS = {
    # Core.
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
    # Convolutions.
    "Conv1D": {
        **convolution("sequence", layers.Conv1D),
        "causal, dilated": (
            "sequence",
            lambda: layers.Conv1D(
                3, 2, padding="causal", dilation_rate=2,
                kernel_regularizer="l2",
            ),
        ),
        "enable_lora": ("sequence", lambda: with_lora(layers.Conv1D(3, 2))),
    },
    "Conv2D": {
        **convolution("image", layers.Conv2D),
        "groups": ("image", lambda: layers.Conv2D(6, 2, groups=3)),
        "kernel regularizer, constraint": (
            "image",
            lambda: layers.Conv2D(
                3, 2, kernel_regularizer="l2", kernel_constraint="unit_norm"
            ),
        ),
        "lora_rank": ("image", lambda: layers.Conv2D(3, 2, lora_rank=2)),
    },
    "Conv3D": convolution("volume", layers.Conv3D),
    "Conv1DTranspose": convolution("sequence", layers.Conv1DTranspose),
    "Conv2DTranspose": convolution("image", layers.Conv2DTranspose),
    "Conv3DTranspose": convolution("volume", layers.Conv3DTranspose),
    "DepthwiseConv1D": {
        "": ("sequence", lambda: layers.DepthwiseConv1D(2)),
        "options": (
            "sequence",
            lambda: layers.DepthwiseConv1D(
                2, depth_multiplier=2, depthwise_regularizer="l2"
            ),
        ),
    },
    "DepthwiseConv2D": {
        "": ("image", lambda: layers.DepthwiseConv2D(2)),
        "options": (
            "image",
            lambda: layers.DepthwiseConv2D(
                2, depth_multiplier=2, depthwise_constraint="max_norm"
            ),
        ),
    },
    "SeparableConv1D": convolution("sequence", layers.SeparableConv1D),
    "SeparableConv2D": convolution("image", layers.SeparableConv2D),
    # Pooling and shapes.
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
    # Recurrent.
    "SimpleRNN": recurrent(layers.SimpleRNN),
    "GRU": {
        **recurrent(layers.GRU),
        "reset_after=False": (
            "sequence", lambda: layers.GRU(3, reset_after=False)
        ),
    },
    "LSTM": {
        **recurrent(layers.LSTM),
        "two stateful": (
            "stateful",
            lambda: keras.Sequential([
                layers.LSTM(3, stateful=True, return_sequences=True),
                layers.LSTM(3, stateful=True),
            ]),
        ),
    },
    "SimpleRNNCell": cell(layers.SimpleRNNCell),
    "GRUCell": cell(layers.GRUCell),
    "LSTMCell": cell(layers.LSTMCell),
    "StackedRNNCells": {
        "": (
            "sequence",
            lambda: layers.RNN(
                layers.StackedRNNCells([layers.GRUCell(3), layers.LSTMCell(2)])
            ),
        ),
    },
    "RNN": {
        "": ("sequence", lambda: layers.RNN(layers.GRUCell(3))),
        "list of cells, return_state": (
            "sequence",
            lambda: layers.RNN(
                [layers.GRUCell(3), layers.GRUCell(2)], return_state=True
            ),
        ),
        "stateful": (
            "stateful",
            lambda: layers.RNN(layers.LSTMCell(3), stateful=True),
        ),
    },
    "Bidirectional": {
        "": ("sequence", lambda: layers.Bidirectional(layers.LSTM(3))),
        "sum of sequences": (
            "masked",
            lambda: layers.Bidirectional(
                layers.GRU(3, return_sequences=True), merge_mode="sum"
            ),
        ),
        "two layers": (
            "sequence",
            lambda: layers.Bidirectional(
                layers.LSTM(3, return_sequences=True),
                backward_layer=layers.GRU(
                    3, go_backwards=True, return_sequences=True
                ),
            ),
        ),
        "return_state": (
            "sequence",
            lambda: layers.Bidirectional(layers.LSTM(3, return_state=True)),
        ),
        "stateful": (
            "stateful",
            lambda: layers.Bidirectional(layers.LSTM(3, stateful=True)),
        ),
    },
    "TimeDistributed": {
        "": ("sequence", lambda: layers.TimeDistributed(layers.Dense(3))),
        "masked": (
            "masked", lambda: layers.TimeDistributed(layers.Dense(3))
        ),
        "of batch normalization": (
            "sequence",
            lambda: layers.TimeDistributed(layers.BatchNormalization()),
        ),
        "of a model": (
            "sequence",
            lambda: layers.TimeDistributed(
                keras.Sequential([
                    keras.Input((4,)), layers.Dense(3, activation="tanh"),
                    layers.Dense(2),
                ])
            ),
        ),
        "of dropout": (
            "sequence",
            lambda: layers.TimeDistributed(layers.Dropout(0.4, seed=3)),
        ),
    },
    "ConvLSTM1D": {
        "": ("image", lambda: layers.ConvLSTM1D(2, 2)),
        "stateful": (
            "stateful image", lambda: layers.ConvLSTM1D(2, 2, stateful=True)
        ),
    },
    "ConvLSTM2D": {
        "": ("volume", lambda: layers.ConvLSTM2D(2, 2)),
        "sequences, dropout": (
            "volume",
            lambda: layers.ConvLSTM2D(
                2, 2, padding="same", return_sequences=True, dropout=0.3,
                recurrent_dropout=0.3, seed=3,
            ),
        ),
    },
    "ConvLSTM3D": {"": ("video", lambda: layers.ConvLSTM3D(2, 2))},
    # Attention.
    "Attention": {
        "": ("sequences", lambda: on_list(layers.Attention())),
        "options": (
            "sequences",
            lambda: on_list(
                layers.Attention(
                    use_scale=True, score_mode="concat", dropout=0.3, seed=3
                )
            ),
        ),
        "masked": (
            "masked sequences",
            lambda: on_list(layers.Attention(use_scale=True)),
        ),
    },
    "AdditiveAttention": {
        "": ("sequences", lambda: on_list(layers.AdditiveAttention())),
        "masked, no scale": (
            "masked sequences",
            lambda: on_list(layers.AdditiveAttention(use_scale=False)),
        ),
    },
    "MultiHeadAttention": {
        "": ("sequences", lambda: layers.MultiHeadAttention(2, 3)),
        "causal": (
            "sequence",
            lambda: on_itself(
                layers.MultiHeadAttention(2, 3), use_causal_mask=True
            ),
        ),
        "masked, dropout": (
            "masked",
            lambda: on_itself(
                layers.MultiHeadAttention(2, 3, dropout=0.3, seed=3)
            ),
        ),
        "scores, regularizers": (
            "sequence",
            lambda: on_itself(
                layers.MultiHeadAttention(
                    2, 3, value_dim=2, output_shape=3,
                    kernel_regularizer="l2", bias_regularizer="l2",
                ),
                return_attention_scores=True,
            ),
        ),
        "enable_lora": ("sequence", lambda: attention_lora()),
    },
    "GroupedQueryAttention": {
        "": ("sequences", lambda: layers.GroupQueryAttention(2, 4, 2)),
        "causal, dropout": (
            "sequence",
            lambda: on_itself(
                layers.GroupQueryAttention(2, 4, 2, dropout=0.3, seed=3),
                use_causal_mask=True,
            ),
        ),
    },
    # What prepares data, in a model.
    "Rescaling": {"": ("vector", lambda: layers.Rescaling(0.5, 0.1))},
    "Resizing": image(lambda: layers.Resizing(6, 5)),
    "CenterCrop": image(lambda: layers.CenterCrop(6, 5)),
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
    # Augmentation.
    "AutoContrast": image(lambda: layers.AutoContrast((0, 1))),
    "ContrastLimitedAdaptiveHistogramEqualization": image(
        lambda: layers.ContrastLimitedAdaptiveHistogramEqualization(
            (0, 1), tile_grid_size=(2, 2)
        )
    ),
    "CutMix": image(lambda: layers.CutMix(0.8, seed=3)),
    # (Inside of a model Keras takes it for a cycle.)
    "Equalization": {
        "at the input": ("raw image", lambda: layers.Equalization((0, 1)))
    },
    "MixUp": image(lambda: layers.MixUp(0.8, seed=3)),
    "Pipeline": image(
        lambda: layers.Pipeline(
            [layers.RandomFlip(seed=3), layers.Rescaling(2.0)]
        )
    ),
    "RandAugment": image(lambda: layers.RandAugment(**SMALL_IMAGE)),
    "RandomBrightness": image(
        lambda: layers.RandomBrightness(0.4, **SMALL_IMAGE)
    ),
    "RandomColorDegeneration": image(
        lambda: layers.RandomColorDegeneration(0.4, **SMALL_IMAGE)
    ),
    "RandomColorJitter": image(
        lambda: layers.RandomColorJitter(
            brightness_factor=0.3, contrast_factor=0.3, saturation_factor=0.3,
            hue_factor=0.2, **SMALL_IMAGE,
        )
    ),
    "RandomContrast": image(lambda: layers.RandomContrast(0.4, **SMALL_IMAGE)),
    "RandomCrop": image(lambda: layers.RandomCrop(6, 5, seed=3)),
    "RandomElasticTransform": image(
        lambda: layers.RandomElasticTransform(**SMALL_IMAGE)
    ),
    "RandomErasing": image(lambda: layers.RandomErasing(**SMALL_IMAGE)),
    "RandomFlip": image(lambda: layers.RandomFlip(seed=3)),
    "RandomGaussianBlur": image(
        lambda: layers.RandomGaussianBlur(**SMALL_IMAGE)
    ),
    "RandomGrayscale": image(lambda: layers.RandomGrayscale(0.5, seed=3)),
    "RandomHue": image(lambda: layers.RandomHue(0.4, **SMALL_IMAGE)),
    "RandomInvert": image(lambda: layers.RandomInvert(0.5, **SMALL_IMAGE)),
    "RandomPerspective": image(
        lambda: layers.RandomPerspective(0.5, 0.5, seed=3)
    ),
    "RandomPosterization": image(
        lambda: layers.RandomPosterization(4, **SMALL_IMAGE)
    ),
    "RandomRotation": image(lambda: layers.RandomRotation(0.2, seed=3)),
    "RandomSaturation": image(
        lambda: layers.RandomSaturation(0.4, **SMALL_IMAGE)
    ),
    "RandomSharpness": image(
        lambda: layers.RandomSharpness(0.4, **SMALL_IMAGE)
    ),
    "RandomShear": image(lambda: layers.RandomShear(0.3, 0.3, seed=3)),
    "RandomTranslation": image(
        lambda: layers.RandomTranslation(0.3, 0.3, seed=3)
    ),
    "RandomZoom": image(lambda: layers.RandomZoom(0.3, seed=3)),
    "Solarization": image(
        lambda: layers.Solarization(0.3, 0.3, **SMALL_IMAGE)
    ),
    # Of other formats.
    "TFSMLayer": {"": ("vector", saved_model)},
}


def reversed_embedding(**options):
    def call(x):
        layer = layers.ReversibleEmbedding(9, 4, **options)
        hidden = layers.Dense(4, activation="tanh")(layer(x))
        return layer(hidden, reverse=True)

    return call


def twice(layer):
    return lambda x: layer(layers.Dense(6, activation="tanh")(layer(x)))


def attention_lora():
    layer = layers.MultiHeadAttention(2, 3)

    def call(x):
        outputs = layer(x, x)
        layer.query_dense.enable_lora(2)
        return outputs

    return call


def case(name, option, **settings):
    """The `Case` of a row."""
    kind, make = LAYERS[name][option]
    if name in _FLOAT32 or option == "orthogonal regularizer":
        settings = {"floatx": "float32", **settings}
    if name == "TFSMLayer":
        # Momentum cannot be called what the variables of a file are called.
        settings = {"compile": plain_descent, **settings}
    if name == "RandomCrop":
        # For inference, Keras crops symbols but not tensors.
        settings = {"run": fit_only, **settings}
    return of_kind(kind, make, **settings)


def fit_only(model, arguments):
    return fit_and_call(model, arguments, call=False)


def plain_descent():
    return {"optimizer": keras.optimizers.SGD(0.05), "loss": "mse"}


def of_kind(kind, make, **settings):
    """The `Case` of a layer in a kind of network."""
    return Case(
        lambda: networks.network(kind, make()),
        **{
            "fit": lambda: networks.data(kind), "run": fit_and_call, **settings
        },
    )
