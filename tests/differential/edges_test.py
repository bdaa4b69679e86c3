"""Batches, data and numbers at the edge of what there can be.

To add an edge, add a row to `EDGES`: the arguments of `fit` and of `compile`
that differ from the harness's, as functions, and whether anything moves.
"""

import json
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

import fr_keras
from tests.command_line import ROOT
from tests.differential.harness import Case, check, fit_arguments
from tests.differential.selection import parameters

layers = keras.layers


def network(is_trainable=True):
    def make():
        model = keras.Sequential([
            keras.Input([6]), layers.Dense(5, "tanh"),
            layers.BatchNormalization(), layers.Dense(4, "tanh"),
            layers.Dropout(0.3), layers.Dense(3),
        ])
        model.trainable = is_trainable
        return model

    return make


def given(**fit):
    return lambda: {**fit_arguments(), **fit}


def first(examples, **fit):
    return lambda: {
        **{name: v[:examples] for name, v in fit_arguments().items()}, **fit
    }


def dataset(change, **fit):
    """`change` makes of a dataset of batches of 4 another one."""

    def make():
        arrays = fit_arguments()
        batches = tf.data.Dataset.from_tensor_slices(
            (arrays["x"], arrays["y"])
        ).batch(4)
        return {"x": change(batches), "y": None, **fit}

    return make


def generator():
    def batches():
        arrays = fit_arguments()
        while True:
            for i in range(0, 9, 3):
                yield arrays["x"][i:i + 3], arrays["y"][i:i + 3]

    return {"x": batches(), "y": None, "steps_per_epoch": 3}


def sgd(rate=0.05, **options):
    return lambda: {
        "optimizer": keras.optimizers.SGD(rate, 0.9), "loss": "mse", **options
    }


# Name: fit, compile, whether anything moves.
EDGES = {
    "batches of one": (given(batch_size=1), sgd(), True),
    "one example": (first(1), sgd(), True),
    "last batch of one": (first(9), sgd(), True),
    "batch larger than the data": (given(batch_size=64), sgd(), True),
    "a call longer than the data": (
        given(), sgd(steps_per_execution=50), True
    ),
    "a call longer than one batch of data": (
        first(3), sgd(steps_per_execution=7), True
    ),
    "unknown length, a call longer": (
        dataset(lambda d: d.filter(lambda *_: True)),
        sgd(steps_per_execution=50), True,
    ),
    "infinite data": (
        dataset(lambda d: d.repeat(), steps_per_epoch=5), sgd(), True
    ),
    "more steps than data": (
        dataset(lambda d: d, steps_per_epoch=5), sgd(), True
    ),
    "a generator": (generator, sgd(), True),
    "one epoch in the middle": (given(initial_epoch=1, epochs=2), sgd(), True),
    "learning rate 0": (given(), sgd(0.0), True),  # Moving averages do.
    "batches of weights 0": (
        given(sample_weight=np.zeros(10)), sgd(), True
    ),
}


def trained(model, arguments):
    """`fit` alone: what is tested and predicted must come to an end."""
    return model.fit(**{
        **({} if arguments["y"] is None else {"batch_size": 4}),
        "epochs": 2, "shuffle": False, "verbose": 0, **arguments,
    }).history


@pytest.mark.parametrize(
    "edge, num_modules",
    parameters(EDGES, {"last batch of one", "a call longer than the data"}),
)
def test_as_by_keras(edge, num_modules):
    fit, compiled, moves = EDGES[edge]
    check(Case(
        network(), fit=fit, compile=compiled, moves=moves, run=trained,
        num_modules=num_modules,
    ))


@pytest.mark.parametrize("algorithm", ["Backprop", "FeaturesReplay", "DDG"])
def test_unknown_length(algorithm):
    """As if it were known.

    (Keras begins an iteration that finds no data, at the end of each epoch, and
    what in it does not depend on the data is done: the number of the iteration
    and the state of dropout go on.)
    """
    found = []
    for change in (lambda d: d, lambda d: d.filter(lambda *_: True)):
        keras.utils.set_random_seed(0)
        model = getattr(fr_keras, algorithm)(network()(), num_modules=3)
        model.compile(**sgd()())
        history = trained(model, dataset(change)())
        assert model.optimizer.global_step == 6
        found.append([*history["loss"], *model.get_weights()])
    for a, b in zip(*found, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
@pytest.mark.parametrize("edge", EDGES)
@pytest.mark.parametrize(
    "algorithm", [fr_keras.FeaturesReplay, fr_keras.DDG, fr_keras.DNI]
)
def test_one_module_as_by_keras(algorithm, edge):
    fit, compiled, moves = EDGES[edge]
    check(Case(
        network(), fit=fit, compile=compiled, moves=moves, run=trained,
        num_modules=(1,), algorithm=algorithm,
    ))


@pytest.mark.parametrize("edge", EDGES)
@pytest.mark.parametrize("algorithm", [
    "FeaturesReplay", pytest.param("DDG", marks=pytest.mark.slow),
    pytest.param("DNI", marks=pytest.mark.slow),
])
@pytest.mark.quick_cases(
    "last batch of one", "a call longer", "unknown length", "a generator",
)
def test_delays_live_with_it(algorithm, edge):
    """Weights and losses stay finite, and only what should moves."""
    fit, compiled, moves = EDGES[edge]
    keras.utils.set_random_seed(0)
    model = getattr(fr_keras, algorithm)(network()(), num_modules=3)
    model.compile(**compiled())
    before = [v.numpy() for v in model.trainable_variables]
    history = trained(model, fit())
    assert np.all(np.isfinite(history["loss"]))
    moved = [
        np.any(a != b.numpy())
        for a, b in zip(before, model.trainable_variables)
    ]
    assert all(np.all(np.isfinite(v)) for v in model.get_weights())
    if edge in ("learning rate 0", "batches of weights 0"):
        assert not any(moved)
    elif edge != "one example":  # Of one, batch normalization lets 0 through.
        assert any(moved)


@pytest.mark.parametrize("algorithm", ["Backprop", "FeaturesReplay", "DDG"])
def test_nothing_is_trained(algorithm):
    """All weights frozen: as by Keras, which trains on and changes nothing."""
    keras.utils.set_random_seed(0)
    model = getattr(fr_keras, algorithm)(network(False)(), num_modules=3)
    keras.utils.set_random_seed(0)
    plain = network(False)()
    plain.set_weights(model.get_weights())
    losses = []
    for one in (model, plain):
        one.compile(**sgd()())
        losses.append(one.fit(
            **fit_arguments(), batch_size=4, epochs=2, verbose=0, shuffle=False
        ).history["loss"])
    np.testing.assert_allclose(*losses, rtol=1e-6)
    for a, b in zip(model.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)


def test_as_many_modules_as_layers():
    """Each layer of three a module; one more is refused."""
    def make():
        return keras.Sequential([
            keras.Input([6]), layers.Dense(5, "tanh"), layers.Dense(4, "tanh"),
            layers.Dense(3),
        ])

    check(Case(make, num_modules=(3,)))
    for algorithm in (fr_keras.Backprop, fr_keras.FeaturesReplay):
        with pytest.raises(ValueError, match="num_modules.*Received: "):
            algorithm(make(), num_modules=4)


MANY = """
import json, sys
import keras, numpy as np, tensorflow as tf
import fr_keras

tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0],
    [tf.config.LogicalDeviceConfiguration()] * 64,
)
keras.utils.set_random_seed(0)
network = keras.Sequential([
    keras.Input([4]), *(keras.layers.Dense(4, "tanh") for _ in range(63)),
    keras.layers.Dense(1),
])
model = fr_keras.{algorithm}(network, num_modules=64)
model.compile(keras.optimizers.SGD(0.01), "mse")
x = np.random.default_rng(0).normal(size=(520, 4)).astype("float32")
losses = model.fit(x, x[:, :1], batch_size=4, verbose=0).history["loss"]
print(json.dumps([len(set(model.devices)), losses]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["Backprop", "FeaturesReplay"])
def test_64_devices(algorithm):
    """More iterations than the longest delay, one module on each."""
    done = subprocess.run(
        [sys.executable, "-c", MANY.replace("{algorithm}", algorithm)],
        cwd=ROOT, capture_output=True, text=True, timeout=900, check=False,
    )
    assert done.returncode == 0, done.stderr
    devices, losses = json.loads(done.stdout)
    assert devices == 64
    assert np.all(np.isfinite(losses))
