"""Networks of one or two towers and heads, with their data and losses."""

import keras
import numpy as np

from tests.differential.harness import EXAMPLES, Case

layers = keras.layers
STRUCTURES = {
    "single": lambda one, two: one,
    "list": lambda one, two: [one, two],
    "tuple": lambda one, two: (one, two),
    "dict": lambda one, two: {"one": one, "two": two},
    "other names": lambda one, two: {"two": one, "b": two},
    "nested": lambda one, two: (one, {"more": [two]}),
    "twice": lambda one, two: [one, two, one],
}


def network(inputs="single", outputs="single", **options):
    """Two towers, joined, and two heads; of a single input or output one."""

    def make():
        one = keras.Input((6,), name="one")
        two = keras.Input((4,), name="two")
        h = layers.Dense(6, activation="tanh", name="tower")(one)
        if inputs != "single":
            other = layers.Dense(4, activation="tanh", name="other")(two)
            h = layers.Concatenate(name="joined")([h, other])
        h = layers.BatchNormalization(name="norm")(h)
        h = layers.Dense(6, activation="tanh", name="trunk")(h)
        first = layers.Dense(
            options.get("units", 3), options.get("activation"), name="first"
        )(layers.Dense(4, activation="tanh", name="before_first")(h))
        second = layers.Dense(2, name="second")(
            layers.Dense(4, activation="tanh", name="before_second")(h)
        )
        return keras.Model(
            STRUCTURES[inputs](one, two), STRUCTURES[outputs](first, second)
        )

    return make


def data(inputs="single", outputs="single", examples=EXAMPLES, **more):
    """x and y in these structures, and more arguments of `fit`."""

    def make():
        rng = np.random.default_rng(0)
        x = [rng.normal(size=(examples, width)) for width in (6, 4)]
        y = [rng.normal(size=(examples, width)) for width in (3, 2)]
        return {
            "x": STRUCTURES[inputs](*x), "y": STRUCTURES[outputs](*y),
            **{
                name: value(rng) if callable(value) else value
                for name, value in more.items()
            },
        }

    return make


def weights(rng):
    return rng.uniform(size=EXAMPLES)


def classes(num_classes):
    return lambda rng: np.arange(EXAMPLES) % num_classes


def compiled(loss="mse", optimizer=None, **options):
    def make():
        return {
            "optimizer": optimizer() if optimizer
            else keras.optimizers.SGD(0.05, 0.875),
            "loss": loss,
            **{
                name: value() if callable(value) else value
                for name, value in options.items()
            },
        }

    return make


def case(inputs="single", outputs="single", fit=None, run=None, **options):
    return Case(
        network(inputs, outputs), run=run,
        fit=data(inputs, outputs, **fit or {}), compile=compiled(**options),
    )


def labelled(units, activation, loss, labels, **options):
    """A case of classification."""
    return Case(
        network(units=units, activation=activation),
        fit=data(y=labels, **options.pop("fit", {})),
        compile=compiled(loss, **options),
    )


def one_hot(rng):
    return np.eye(3)[rng.integers(0, 3, EXAMPLES)]


def binary(rng):
    return rng.integers(0, 2, (EXAMPLES, 1)).astype("float64")


def masked_network():
    return keras.Sequential([
        keras.Input((5,), dtype="int32"),
        layers.Embedding(9, 4, mask_zero=True),
        layers.LSTM(4, return_sequences=True),
        layers.GRU(4, return_sequences=True),
        layers.Dense(4, activation="tanh"),
        layers.Dense(3),
    ])


def masked_data(**more):
    def make():
        rng = np.random.default_rng(0)
        return {
            "x": rng.integers(0, 4, (EXAMPLES, 5)).astype("int32"),
            "y": rng.normal(size=(EXAMPLES, 5, 3)),
            **{name: value(rng) for name, value in more.items()},
        }

    return make


def masked(loss="mse", **options):
    fit = options.pop("fit", {})
    return Case(
        masked_network, fit=masked_data(**fit),
        compile=compiled(loss, **options),
    )


def weights_of_steps(rng):
    return rng.uniform(size=(EXAMPLES, 5))


two = {"inputs": "dict", "outputs": "dict"}
