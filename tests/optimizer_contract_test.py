"""What an optimizer does after `compile` here, beside stock Keras."""

import inspect

import keras
import numpy as np
import pytest
import tensorflow as tf

import fr_keras
from tests.optimizer_pairs import (
    BATCH,
    DEVICES,
    OPTIONS,
    STEPS,
    assert_alike,
    data,
    fit,
    net,
    pair,
)

layers, optimizers = keras.layers, keras.optimizers


def excluding(make, layer="first", variable="head/bias"):
    """By name, one that is the name of a layer, and itself."""

    def with_network(network):
        optimizer = make()
        optimizer.exclude_from_weight_decay(
            [v for v in network.variables if v.path == f"net/{variable}"],
            [layer],
        )
        return optimizer

    return with_network


CLASSES = {
    name: value for name, value in vars(optimizers).items()
    if isinstance(value, type) and issubclass(value, optimizers.Optimizer)
    and value not in (
        optimizers.Optimizer,
        # These are made of others: see OPTIONS.
        optimizers.LossScaleOptimizer, optimizers.MultiOptimizer,
    )
}


def decaying(cls):
    def make():
        has_decay = "weight_decay" in inspect.signature(cls).parameters
        return cls(
            learning_rate=0.01, **({"weight_decay": 0.5} if has_decay else {})
        )

    return make


CASES = {name: excluding(decaying(cls)) for name, cls in CLASSES.items()} | {
    name: lambda network, make=make: make() for name, make in OPTIONS.items()
}


@pytest.mark.parametrize(
    "num_modules", [pytest.param(1, marks=pytest.mark.slow), 2]
)
@pytest.mark.parametrize("name", list(CASES))
@pytest.mark.quick_cases(
    "Adam-2", "Muon-2", "averages-2", "accumulation-2", "loss scale-2",
    "several-2", "subclass-2",
)
def test_modules_elsewhere_are_updated_as_by_keras(name, num_modules):
    models = pair(num_modules)
    for model in models:
        # What is excluded is a variable of the plain network, of both.
        model.compile(CASES[name](models[1]), "mse", run_eagerly=True)
        model.optimizer.build(model.trainable_variables)
        fit(model)
    assert_alike(*models)


def test_weight_decay_of_what_is_excluded_by_hand():
    """At a learning rate of 1 and without gradients, decay is all."""
    network = net()
    decay = excluding(lambda: optimizers.SGD(1.0, weight_decay=0.5))(network)
    model = fr_keras.FeaturesReplay(network, 2, DEVICES)
    for variable in model.trainable_variables:
        variable.assign(tf.ones(variable.shape))
    before = {v.path: np.array(v) for v in model.trainable_variables}
    model.compile(decay, "mse")
    x = data()[0][:BATCH]
    # Twice, since the first module waits for its first error gradient.
    model.fit(x, np.array(model(x)), epochs=1, verbose=0)
    for variable in model.modules[1].trainable_variables:
        kept = variable.path in ("net/head/bias",) or "first" in variable.path
        np.testing.assert_allclose(
            variable, before[variable.path] * (1.0 if kept else 0.5),
            atol=1e-6, err_msg=variable.path,
        )


def test_names_survive_a_move():
    """And so do the keys by which an optimizer knows a variable."""
    layer = layers.Dense(3, name="dense")
    network = keras.Sequential([keras.Input((4,)), layer], name="net")
    optimizer = optimizers.SGD(1.0, weight_decay=0.5)
    optimizer.exclude_from_weight_decay([layer.bias], ["net/dense/kernel"])
    names = [v.value.name for v in network.variables]
    with tf.name_scope("elsewhere"):
        fr_keras.engine.placement.move([network], fr_keras.FeaturesReplay(
            [layers.Dense(1)], devices=["CPU:3"]
        ).devices[0])
    assert [v.value.name for v in network.variables] == names
    optimizer.build(network.trainable_variables)
    before = [np.array(v) for v in network.variables]
    optimizer.apply([tf.zeros_like(v) for v in network.trainable_variables])
    for variable, value in zip(network.variables, before):
        np.testing.assert_array_equal(variable, value)


# Compiling again.


@pytest.mark.parametrize("own_facade", [True, False])
@pytest.mark.parametrize(
    "name", ["averages", "schedule", "several with a loss scale", "subclass"]
)
@pytest.mark.quick_cases("averages-True", "several with a loss scale-False")
def test_an_optimizer_that_is_compiled_again_goes_on(name, own_facade):
    models = pair(2)
    for model in models:
        optimizer = OPTIONS[name]()
        for _ in range(2):
            model.compile(optimizer, "mse", run_eagerly=True)
            model.optimizer.build(model.trainable_variables)
            fit(model)
            if own_facade:
                optimizer = model.optimizer
    assert_alike(*models)
    assert int(models[0].optimizer.iterations) == 2 * STEPS


def test_another_optimizer_is_fresh():
    model, _ = pair(2)
    for _ in range(2):
        model.compile(optimizers.Adam(0.01), "mse", run_eagerly=True)
        fit(model)
        assert int(model.optimizer.iterations) == STEPS
        for optimizer in model.optimizer.per_module:
            assert int(optimizer.iterations) == STEPS


def test_mixed_precision_compiled_again():
    """Keras wraps the same optimizer once more: its scale begins anew."""
    models = pair(2)
    for model in models:
        model.dtype_policy = "mixed_float16"
        optimizer = optimizers.Adam(0.01)
        for _ in range(2):
            model.compile(optimizer, "mse", run_eagerly=True)
            model.optimizer.build(model.trainable_variables)
            fit(model)
    assert_alike(*models)
    for copy in models[0].optimizer.per_module:
        assert int(copy.iterations) == 2 * STEPS
        assert int(copy.step_counter) == STEPS


def test_optimizer_of_another_model_is_refused():
    """By Keras too, which does not know the variables."""
    plain, optimizer = net(), optimizers.Adam()
    plain.compile(optimizer, "mse", run_eagerly=True)
    fit(plain)
    model, _ = pair(2)
    with pytest.raises(ValueError, match="another.*Received: optimizer=<"):
        model.compile(optimizer, "mse")
    model.compile("adam", "mse", run_eagerly=True)
    fit(model)
    other, _ = pair(2)
    with pytest.raises(ValueError, match="another.*Received: optimizer=<"):
        other.compile(model.optimizer, "mse")
