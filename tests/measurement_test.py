"""Measured times and sizes, on layers of which both are known."""

import gc
import types

import keras
import numpy as np
import pytest
import tensorflow as tf

import fr_keras
from fr_keras.engine import chain
from fr_keras.engine.features import Features
from fr_keras.engine.module import Module
from fr_keras.profiling import measurement, timing

layers = keras.layers
FORWARD, BACKWARD = 0.02, 0.05


# Time goes by in layers that take some, and a little whenever it is looked at.
_now = [0.0]
_GLANCE = 1e-6


@keras.saving.register_keras_serializable("measurement_test")
class Slow(layers.Layer):
    """Takes so many times as long as others."""

    def __init__(self, factor=1, **kwargs):
        super().__init__(**kwargs)
        self.factor = factor

    def build(self, input_shape):
        self.weight = self.add_weight(shape=(), initializer="ones")

    def _take(self, x, seconds):
        def take(x):
            _now[0] += seconds * self.factor
            return x

        y = tf.numpy_function(take, [x], x.dtype)
        return tf.ensure_shape(y, x.shape)

    def call(self, x):
        @tf.custom_gradient
        def multiply(x, weight):
            y = self._take(x * weight, FORWARD)

            def gradient(dy):
                dx = self._take(dy * weight, BACKWARD)
                return dx, tf.reduce_sum(dx * x)

            return y, gradient

        return multiply(x, tf.convert_to_tensor(self.weight))

    def get_config(self):
        return {**super().get_config(), "factor": self.factor}


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    def perf_counter():
        _now[0] += _GLANCE
        return _now[0]

    monkeypatch.setattr(
        timing, "time", types.SimpleNamespace(perf_counter=perf_counter)
    )
    monkeypatch.setattr(timing, "_LEAST_SECONDS", _GLANCE)
    monkeypatch.setattr(timing, "_REPETITIONS", 1)


def slow_net():
    return keras.Sequential(
        [keras.Input((3,))]
        + [Slow(factor, name=f"slow_{factor}") for factor in (1, 2, 3)]
    )


def about(seconds):
    return pytest.approx(seconds, abs=2 * _GLANCE)


def test_costs_are_seconds():
    costs = fr_keras.measure_costs(slow_net(), np.ones([2, 3], "float32"))
    assert list(costs) == ["slow_1", "slow_2", "slow_3"]
    for factor, cost in enumerate(costs.values(), start=1):
        assert cost == (about(FORWARD * factor), about(BACKWARD * factor))


def test_model_stays_as_it_is():
    model = keras.Sequential([
        keras.Input((4,)), layers.Dense(4), layers.BatchNormalization(),
        layers.Dropout(0.5, seed=1),
    ])
    before = [variable.numpy() for variable in model.variables]
    fr_keras.measure_costs(model)
    for variable, value in zip(model.variables, before):
        np.testing.assert_array_equal(variable.numpy(), value)


def test_alike_is_measured_once(monkeypatch):
    seen = []
    measure = measurement._measure_call
    monkeypatch.setattr(
        measurement, "_measure_call",
        lambda alone, *args: seen.append(alone.layers[-1].name)
        or measure(alone, *args),
    )
    model = keras.Sequential([
        keras.Input((4,)),
        layers.Dense(4, name="first"),  # Whose input has no gradient.
        layers.Dense(4, name="second"),
        layers.Dense(4, name="third"),
        layers.Dense(4, activation="relu", name="other"),
        layers.Dense(5, name="wider"),
        layers.Dense(4, name="narrower"),
    ])
    costs = fr_keras.measure_costs(model)
    assert seen == ["first", "second", "other", "wider", "narrower"]
    assert costs["second"] == costs["third"]


def recurrent_net():
    return keras.Sequential([
        keras.Input((None,), dtype="int32"),
        layers.Embedding(9, 4, mask_zero=True),
        layers.LSTM(4),
        layers.Dense(3),
    ])


def branched_net():
    """Operations that are no layers, several inputs, a shared layer."""
    images, scale = keras.Input((None, None, 3)), keras.Input((4,))
    shared = layers.Conv2D(4, 3, padding="same")
    x = shared(layers.Conv2D(4, 3)(images) * 2.0)
    x = keras.ops.mean(shared(x), (1, 2))
    return keras.Model([images, scale], layers.Dense(2)(x * scale))


@pytest.mark.parametrize("make", [recurrent_net, branched_net])
def test_partition_takes_what_was_measured(make):
    model = make()
    costs = fr_keras.measure_costs(model)
    assert all(cost.forward > 0 for cost in costs.values())
    modules = fr_keras.partition(model, 2, costs)
    assert len(modules) == 2


def test_partition_measures(monkeypatch):
    """The slow end becomes a module of its own."""
    model = keras.Sequential(
        [keras.Input((3,))]
        + [layers.Dense(3, name=f"dense_{i}") for i in range(4)]
        + [Slow(1, name="slow_1"), Slow(1, name="slow_2")]
    )
    modules = fr_keras.partition(model, 2, fr_keras.measure_costs(model))
    assert [layer.name for layer in modules[1].layers[1:]] == ["slow_2"]
    model = fr_keras.FeaturesReplay(model, 2, costs="measured")
    assert [layer.name for layer in model.modules[1].layers[1:]] == ["slow_2"]


def test_data_that_does_not_fit():
    with pytest.raises(ValueError, match="1 inputs.*Received: 2 tensors"):
        fr_keras.measure_costs(slow_net(), [np.ones([2, 3])] * 2)


def test_modules_one_by_one():
    model = fr_keras.FeaturesReplay(slow_net(), 3)
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), "mse")
    before = model.get_weights()
    x = np.ones([2, 3], "float32")
    found = measurement.measure_modules(
        model.pipeline.modules, model.optimizer, x
    )
    for factor, times in enumerate(found, 1):
        assert times.forward == about(FORWARD * factor)
        assert times.backward == about(BACKWARD * factor)
        assert times.update == about(0)
    # Updated at learning rate 0.
    for value, old in zip(model.get_weights(), before):
        np.testing.assert_array_equal(value, old)


def test_activations():
    """tanh keeps its output, a dense layer its input, here the same."""
    width, depth, batch = 16, 5, 32
    network = keras.Sequential(
        [keras.Input((width,))]
        + [layers.Dense(width, "tanh") for _ in range(depth)]
    )
    model = fr_keras.Backprop(network, 1)
    (module,) = model.pipeline.modules
    x = tf.ones([batch, width])
    chain.build([module], x)
    found = measurement.activation_bytes(module, Features([x], [None]))
    tensor = batch * width * 4
    assert (depth + 1) * tensor <= found <= (depth + 1) * tensor + 100 * depth

    calls = measurement.measure_calls(network, x)
    assert all(call.own_bytes <= 100 for call in calls)  # Shapes.
    kept = set().union(*(call.kept for call in calls))
    sizes = {i: size for call in calls for i, size in call.sizes.items()}
    assert [sizes[i] for i in kept] == [tensor] * (depth + 1)


def test_functions_of_loops_exist_until_they_have_run():
    """Nothing that the collector frees after tracing is still needed.

    (Rarely failed: "Function ..._while_cond_..._rewritten is not defined".)
    """
    def run(function, x):
        traced = tf.function(lambda: function(x)).get_concrete_function()
        gc.collect()
        return traced()

    module = Module(recurrent_net(), "CPU:0")
    module.build(keras.KerasTensor((4, 5), "int32"), [False], is_last=False)
    x = Features([tf.ones([4, 5], tf.int32)], [None])
    own_bytes, _ = measurement.residuals(module, x, run)
    assert own_bytes > 0
