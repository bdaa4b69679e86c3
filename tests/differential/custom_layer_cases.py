"""Layers as users write them, and what users do to layers.

To add one, write a layer in `custom_layers.py` and a row in `CASES`: a kind of
network (`networks.KINDS`) and a function that makes what is called in it.
"""

import keras

from tests.differential.custom_layers import (
    Annealed,
    BrokenConfig,
    Codebook,
    Counted,
    Forgetful,
    Halved,
    Integers,
    MaskMaker,
    NoConfig,
    Noise,
    Norms,
    OtherOrder,
    Penalized,
    PlainVariable,
    ReadBefore,
    Renormalized,
    RunningMean,
    Sampling,
    SharedSeed,
    Structured,
    Tied,
    UsesIntegers,
    Weighted,
)
from tests.differential.layer_cases.calls import frozen, twice

layers = keras.layers
ops = keras.ops


# What is done to layers that exist.


def after(layer, change):
    """Calls a layer, and changes it then."""

    def call(*tensors):
        outputs = layer(*tensors)
        change(layer)
        return outputs

    return call


def freeze(*path):
    """Freezes what attributes lead to, a sub-layer or a variable."""

    def change(layer):
        for name in path:
            is_item = isinstance(layer, (list, dict))
            layer = layer[name] if is_item else getattr(layer, name)
        layer.trainable = False

    return change


def set_on(variable, **attributes):
    """Sets attributes of a variable of the layer."""

    def change(layer):
        for name, value in attributes.items():
            setattr(getattr(layer, variable), name, value)

    return change


def set_late(**attributes):
    """Sets attributes of the layer that Keras has read already."""

    def change(layer):
        for name, value in attributes.items():
            setattr(layer, name, value)

    return change


def inner():
    """A model to be nested."""
    return keras.Sequential([
        keras.Input((6,)), layers.Dense(5, activation="tanh", name="below"),
        layers.BatchNormalization(name="norm"), layers.Dense(6, name="above"),
    ], name="inner")


def frozen_layer_of(model, name):
    model.get_layer(name).trainable = False
    return model


def attention_on_itself(change):
    def call(x):
        layer = layers.MultiHeadAttention(2, 3)
        outputs = layer(x, x)
        change(layer)
        return outputs

    return call


def tied(x):
    hidden = layers.Dense(6, activation="tanh")
    x = layers.Dense(6)(hidden(x))
    return Tied(hidden)(x)


def shared(calls):
    """One layer that is called in several places, with others between."""

    def call(x):
        layer = layers.Dense(6, activation="tanh", name="shared")
        for _ in range(calls):
            x = layers.Dense(6, activation="tanh")(layer(x))
        return x

    return call


def masked_residual(x):
    """A block of a transformer; Keras' attention takes the mask off x."""
    x = layers.LayerNormalization()(
        x + layers.MultiHeadAttention(2, 3)(x, x)
    )
    return layers.GRU(3)(layers.Dense(4)(x) + x)


def structured(x):
    made = Structured()({"a": x, "b": [2.0 * x]}, power=2, offset=x[:, :4])
    return [made["x"], *made["more"]]


def with_integers(x):
    return UsesIntegers()(Integers()(x))


L2 = keras.regularizers.L2
CASES = {
    "metric in a layer": ("vector", Counted),
    "running mean": ("vector", RunningMean),
    "weight assigned in every call": ("vector", Renormalized),
    "weight read before and after": ("vector", ReadBefore),
    "codebook": ("vector", Codebook),
    "counter": ("vector", Annealed),
    "tf.Variable": ("vector", PlainVariable),
    "normalization in a layer": ("vector", Norms),
    "add_loss": ("vector", Penalized),
    "seed generator": ("vector", Noise),
    "shared seed generator": ("vector", SharedSeed),
    "variational": ("vector", Sampling),
    "structures": ("vector", lambda: structured),
    "integers and booleans": ("vector", lambda: with_integers),
    "masks of its own": (
        "masked", lambda: lambda x: Weighted()(MaskMaker()(x))
    ),
    "masked attention with a residual": (
        "masked", lambda: masked_residual
    ),
    "masked attention beside a recurrent layer": (
        "masked",
        lambda: lambda x: [
            layers.MultiHeadAttention(2, 3)(x, x), layers.LSTM(3)(x)
        ],
    ),
    "two layers with state": (
        "vector", lambda: lambda x: Codebook()(RunningMean()(x))
    ),
    "layers with state in one model": (
        "vector",
        lambda: keras.Sequential([
            keras.Input((6,)), RunningMean(), layers.Dense(6), Counted(),
        ]),
    ),
    "state in TimeDistributed": (
        "sequence", lambda: layers.TimeDistributed(RunningMean())
    ),
    "unregistered class in TimeDistributed": (
        "sequence", lambda: layers.TimeDistributed(Halved())
    ),
    # Frozen.
    "frozen layer": (
        "vector", lambda: after(layers.Dense(6), freeze())
    ),
    "frozen variable": (
        "vector", lambda: after(layers.Dense(6), freeze("kernel"))
    ),
    "frozen gamma": (
        "vector", lambda: after(layers.BatchNormalization(), freeze("gamma"))
    ),
    "frozen sub-layer": (
        "vector", lambda: after(Sampling(), freeze("mean"))
    ),
    "frozen sub-layer in a dict": (
        "vector", lambda: after(Norms(), freeze("dense", "a"))
    ),
    "frozen sub-layer in a list": (
        "vector", lambda: after(Norms(), freeze("blocks", 0))
    ),
    "frozen query of attention": (
        "sequence", lambda: attention_on_itself(freeze("_query_dense"))
    ),
    "frozen half of Bidirectional": (
        "sequence",
        lambda: after(
            layers.Bidirectional(layers.LSTM(3)), freeze("forward_layer")
        ),
    ),
    "frozen layer in TimeDistributed": (
        "sequence",
        lambda: after(
            layers.TimeDistributed(layers.Dense(3)), freeze("layer")
        ),
    ),
    "frozen model": ("vector", lambda: after(inner(), freeze())),
    "frozen layer of a model": (
        "vector", lambda: frozen_layer_of(inner(), "below")
    ),
    "frozen normalization of a model": (
        "vector", lambda: frozen_layer_of(inner(), "norm")
    ),
    "variable frozen in a model": (
        "vector",
        lambda: after(
            inner(),
            lambda model: set_on("bias", trainable=False)(
                model.get_layer("above")
            ),
        ),
    ),
    "unfrozen sub-layer": (
        "vector",
        lambda: after(
            frozen(Sampling()),
            lambda layer: set_late(trainable=True)(layer.log_variance),
        ),
    ),
    # Regularizers and constraints of variables.
    "regularizer of a variable": (
        "vector",
        lambda: after(layers.Dense(6), set_on("kernel", regularizer=L2(0.1))),
    ),
    "constraint of a variable": (
        "vector",
        lambda: after(
            layers.Dense(6),
            set_on("kernel", constraint=keras.constraints.MaxNorm(0.5)),
        ),
    ),
    "regularizer set too late": (
        "vector",
        lambda: after(
            layers.Dense(6), set_late(kernel_regularizer=L2(0.5))
        ),
    ),
    "constraint set too late": (
        "vector",
        lambda: after(
            layers.Dense(6),
            set_late(kernel_constraint=keras.constraints.MaxNorm(0.1)),
        ),
    ),
    "activity regularizer set late": (
        "vector",
        lambda: after(
            layers.Dense(6), set_late(activity_regularizer=L2(0.5))
        ),
    ),
    "regularizer taken away": (
        "vector",
        lambda: after(
            layers.Dense(6, kernel_regularizer=L2(0.5)),
            set_on("kernel", regularizer=None),
        ),
    ),
    "rate set late": (
        "vector",
        lambda: after(layers.Dropout(0.5, seed=3), set_late(rate=0.25)),
    ),
    # Configurations.
    "configuration without an argument": (
        "vector", lambda: Forgetful(power=2)
    ),
    "function as an argument": (
        "vector", lambda: NoConfig(lambda x: ops.tanh(2.0 * x))
    ),
    "no configuration": (
        "vector", lambda: BrokenConfig(lambda x: ops.tanh(2.0 * x))
    ),
    "weights in another order": ("vector", OtherOrder),
    # Weights in several places.
    "weights of another layer": ("vector", lambda: tied),
    "layer called twice": ("vector", lambda: shared(2)),
    "layer called four times": ("vector", lambda: shared(4)),
    "model called twice": (
        "vector", lambda: twice(inner())
    ),
    "stateful layer called twice": (
        "vector", lambda: twice(RunningMean())
    ),
}
