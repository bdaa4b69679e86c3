"""What tells two trainings apart, but for the values of variables."""

import json

import keras
import pytest
from keras import layers

import fr_keras
from fr_keras.callbacks.checkpoints.configuration import of_optimizer
from fr_keras.callbacks.checkpoints.network import of_network
from tests import small_graphs

optimizers = keras.optimizers


def residual(after="second", factor=2.0, activation="relu", shared=False):
    inputs = keras.Input([4])
    first = layers.Dense(4, activation)
    second = first if shared else layers.Dense(4, activation)
    x = first(inputs)
    y = second(x)
    return keras.Model(
        inputs, factor * (y + {"input": inputs, "first": x, "second": y}[after])
    )


def test_names_do_not_matter():
    assert of_network([residual()]) == of_network([residual()])


@pytest.mark.parametrize(
    "other",
    [
        {"after": "first"}, {"after": "input"}, {"factor": 3.0},
        {"activation": "tanh"}, {"shared": True},
    ],
)
def test_what_is_computed_does(other):
    assert of_network([residual(**other)]) != of_network([residual()])


def test_order_of_operands():
    a, b = keras.Input([4]), keras.Input([4])
    one, other = keras.Model([a, b], a - b), keras.Model([a, b], b - a)
    assert of_network([one]) != of_network([other])


def test_models_in_models_are_their_layers():
    def make(is_nested):
        x, p = keras.Input([4]), keras.Input([3])
        first = layers.Dense(4)(x)

        def inner(x, p):
            # What is needed first comes of the second input.
            return layers.Dense(5, "relu")(p) + layers.Dense(5)(x), 2.0 * x

        if is_nested:
            inputs = keras.Input([4]), keras.Input([3])
            y, z = keras.Model(inputs, inner(*inputs))([first, p])
        else:
            y, z = inner(first, p)
        return keras.Model([x, p], [layers.Dense(2)(y), z])

    assert of_network([make(True)]) == of_network([make(False)])


def test_models_that_are_called_as_in_prediction():
    """As backbones that are fine-tuned are."""
    def make(**options):
        inner = keras.Sequential([
            keras.Input([4]), layers.Dense(3), layers.BatchNormalization(),
        ])
        x = keras.Input([4])
        return keras.Model(x, layers.Dense(2)(inner(x, **options)))

    fixed = of_network([make(training=False)])
    assert fixed == of_network([make(training=False)])
    assert fixed != of_network([make()])


@pytest.mark.parametrize("make", ["residual", "with_operations", "nested"])
def test_cuts_do_not_matter(make):
    network = getattr(small_graphs, make)()
    modules = fr_keras.FeaturesReplay(network, 2).modules
    assert of_network(list(modules)) == of_network([network])


def test_layers_in_layers():
    def net(units, return_sequences=False):
        return [keras.Sequential([
            keras.Input([5, 3]), layers.Bidirectional(
                layers.GRU(units, return_sequences=return_sequences)
            ),
        ])]

    assert of_network(net(4)) == of_network(net(4))
    assert of_network(net(4)) != of_network(net(5))
    assert of_network(net(4)) != of_network(net(4, True))


def test_functions():
    def net(function):
        return [keras.Sequential([keras.Input([5]), layers.Lambda(function)])]

    relu = of_network(net(lambda x: keras.ops.relu(x)))
    assert relu == of_network(net(lambda x: keras.ops.relu(x)))
    assert relu != of_network(net(lambda x: keras.ops.tanh(x)))


def nested_schedule(rate):
    return optimizers.LossScaleOptimizer(optimizers.SGD(
        optimizers.schedules.ExponentialDecay(rate, 5, 0.5)
    ))


def several(momentum):
    return optimizers.MultiOptimizer(optimizers.OptimizerMap(
        optimizers.Adam(0.1), {".*bias": optimizers.SGD(0.1, momentum)}
    ))


@pytest.mark.parametrize(
    "one, same, other",
    [
        (optimizers.SGD(0.1), optimizers.SGD(0.2), optimizers.SGD(0.1, 0.9)),
        (optimizers.Adam(0.1), optimizers.Adam(0.3, name="a"),
         optimizers.AdamW(0.1)),
        (nested_schedule(0.1), nested_schedule(0.1), nested_schedule(0.2)),
        (several(0.5), several(0.5), several(0.6)),
    ],
)
def test_optimizers(one, same, other):
    assert of_optimizer(one) == of_optimizer(same) != of_optimizer(other)
    json.dumps(of_optimizer(one))
