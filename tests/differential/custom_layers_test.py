"""Layers as users write them, and what users do to layers.

To add one, write a layer in `custom_layers.py` and a row in `CASES`: a kind of
network (`networks.KINDS`) and a function that makes what is called in it.
"""

import keras
import numpy as np
import pytest

from tests.differential import networks
from tests.differential.custom_layers import (
    Annealed,
    Branching,
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
    RandomBranch,
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
from tests.differential.harness import (
    EXAMPLES,
    Case,
    check,
    compile_arguments,
    fit_and_call,
    fit_arguments,
)
from tests.differential.layer_cases import of_kind
from tests.differential.layer_cases.calls import frozen, twice
from tests.differential.selection import parameters

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
FAST = {
    "metric in a layer", "codebook", "frozen query of attention",
    "regularizer of a variable", "regularizer set too late",
    "configuration without an argument", "layer called twice",
    "weight read before and after",
}


@pytest.mark.parametrize("name, num_modules", parameters(CASES, FAST))
def test_is_trained_as_by_keras(name, num_modules):
    check(of_kind(*CASES[name], num_modules=num_modules))


def test_number_of_cases(tell):
    assert len(CASES) >= 50
    tell(f"{len(CASES)} layers of users, and what users do to layers")


# Mixed precision: networks whole, and single layers.


def mixed_network(policy):
    def make():
        keras.config.set_dtype_policy(policy)
        try:
            return networks.network(
                "vector",
                lambda x: layers.Dense(4)(
                    layers.BatchNormalization()(layers.Dense(6)(x))
                ),
            )
        finally:
            keras.config.set_dtype_policy("float32")

    return make


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision(policy):
    """In the same order of operations: a rounding apart, of 8 or 11 bits.

    At a loss scale that does not overflow: an overflow skips the update of
    its module only.
    """

    def compile():
        optimizer = keras.optimizers.SGD(0.05, 0.9)
        if policy == "mixed_float16":
            optimizer = keras.optimizers.LossScaleOptimizer(
                optimizer, initial_scale=16.0
            )
        return {**compile_arguments(), "optimizer": optimizer}

    check(Case(
        mixed_network(policy), fit=lambda: networks.data("vector"),
        compile=compile, floatx="float32", tolerance=1e-2,
    ))


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize("layer", ["Dense", "LSTM", "BatchNormalization"])
def test_layer_of_another_precision(layer, dtype):
    def make():
        if layer == "BatchNormalization":
            return layers.BatchNormalization(dtype=dtype)
        return getattr(layers, layer)(4, dtype=dtype)

    check(of_kind("sequence", make, floatx="float32", tolerance=1e-2))


# What is assigned in a branch is refused.


@pytest.mark.parametrize("layer", [Branching, RandomBranch])
def test_assignment_in_a_branch_is_refused(layer):
    check(of_kind("vector", layer, refusal="inside a branch or a loop"))


# Models that train in a way of their own are refused.


class OwnTrainStep(keras.Model):
    def train_step(self, data):
        x, y = data
        return super().train_step((0.5 * x, y))


class OwnLoss(keras.Model):
    def compute_loss(
        self, x=None, y=None, y_pred=None, sample_weight=None, training=True
    ):
        return 2.0 * super().compute_loss(x, y, y_pred, sample_weight, training)


class OwnTestStep(keras.Model):
    def test_step(self, data):
        x, y = data
        return super().test_step((0.5 * x, y))


class OwnPredictStep(keras.Model):
    def predict_step(self, data):
        return 2.0 * super().predict_step(data)


class OwnMetrics(keras.Model):
    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        logs = super().compute_metrics(x, y, y_pred, sample_weight)
        return {**logs, "half": ops.mean(y_pred)}


class OwnCall(keras.Model):
    def call(self, inputs, training=None, mask=None):
        return 2.0 * super().call(inputs, training=training, mask=mask)


@pytest.mark.slow
@pytest.mark.parametrize("model_class, method", [
    (OwnTrainStep, "train_step"),
    (OwnLoss, "compute_loss"),
    (OwnTestStep, "test_step"),
    (OwnPredictStep, "predict_step"),
    (OwnMetrics, "compute_metrics"),
    (OwnCall, "call"),
])
def test_overridden_method_is_refused(model_class, method):
    def make():
        inputs = keras.Input((6,))
        x = inputs
        for _ in range(4):
            x = layers.Dense(5, activation="tanh")(x)
        return model_class(inputs, layers.Dense(3)(x))

    check(Case(make, refusal=method))


# Autoencoders and others without a loss of `compile`.


class Reconstruction(layers.Layer):
    def call(self, x, decoded):
        self.add_loss(ops.mean(ops.square(x - decoded)))
        return decoded


def autoencoder():
    inputs = keras.Input((6,))
    x = layers.Dense(5, activation="tanh")(inputs)
    x = layers.Dense(3, activation="tanh", activity_regularizer="l1")(x)
    x = layers.Dense(5, activation="tanh")(x)
    return keras.Model(inputs, Reconstruction()(inputs, layers.Dense(6)(x)))


def test_only_losses_of_layers():
    def run(model, arguments):
        history = model.fit(
            arguments["x"], batch_size=4, epochs=2, shuffle=False, verbose=0
        )
        evaluated = model.evaluate(
            arguments["x"], batch_size=4, verbose=0, return_dict=True
        )
        return history.history, evaluated

    check(Case(
        autoencoder, run=run,
        compile=lambda: {"optimizer": keras.optimizers.SGD(0.05)},
    ))


@pytest.mark.slow
@pytest.mark.parametrize("steps_per_execution", [1, 2, 3])
def test_state_over_several_iterations_of_a_call(steps_per_execution):
    check(of_kind(
        "vector", lambda: lambda x: Codebook()(RunningMean()(Counted()(x))),
        compile=lambda: {
            **compile_arguments(), "steps_per_execution": steps_per_execution
        },
    ))


@pytest.mark.slow
def test_state_when_run_eagerly():
    check(of_kind(
        "vector", lambda: lambda x: Codebook()(RunningMean()(Counted()(x))),
        compile=lambda: {**compile_arguments(), "run_eagerly": True},
    ))


@pytest.mark.slow
@pytest.mark.parametrize("kind, make", [
    ("image", lambda: layers.RandomFlip(seed=3)),
    ("sequence", lambda: layers.GRU(3, dropout=0.3, seed=3)),
    ("vector", Sampling),
    ("vector", Branching),
], ids=["RandomFlip", "GRU", "variational", "branch"])
def test_random_numbers_when_run_eagerly(kind, make):
    """Nothing is drawn, or counted, but for a step."""
    check(of_kind(
        kind, make,
        compile=lambda: {**compile_arguments(), "run_eagerly": True},
    ))


@pytest.mark.slow
def test_state_between_batches_of_different_lengths():
    def make():
        return keras.Sequential([
            keras.Input((None, 3)),
            layers.Dense(4),
            layers.SpatialDropout1D(0.3, seed=3),
            layers.LSTM(4, return_sequences=True),
            layers.BatchNormalization(),
            layers.GRU(4),
            layers.Dense(4, activation="tanh"),
            layers.Dense(3),
        ])

    def run(model, arguments):
        rng = np.random.default_rng(0)
        logs = [
            model.train_on_batch(
                rng.normal(size=(4, length, 3)), arguments["y"][:4],
                return_dict=True,
            )
            for length in (3, 5, 3, 7)
        ]
        return logs, fit_and_call(
            model, {**arguments, "x": rng.normal(size=(EXAMPLES, 4, 3))}
        )

    check(Case(make, fit=fit_arguments, run=run))
