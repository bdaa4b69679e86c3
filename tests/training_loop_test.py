"""Calls of the training function: what is counted, refused and reported."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

import fr_keras
from tests.small_net import (
    BATCH,
    assert_same,
    compiled,
    data,
    fit,
    net,
    values,
)

layers = keras.layers
DELAYED = [fr_keras.FeaturesReplay, fr_keras.DDG]


def dense_net(units=4):
    return keras.Sequential([
        keras.Input((6,)), *(layers.Dense(units, "tanh") for _ in range(3)),
    ])


@pytest.mark.parametrize("algorithm", DELAYED)
def test_a_first_call_that_fails_does_not_count(algorithm):
    def make():
        model = algorithm(network, 3)
        model.compile(
            "sgd", "sparse_categorical_crossentropy", steps_per_execution=2
        )
        return model

    network = net()
    model, other = make(), make()
    x, _ = data()
    y = np.arange(len(x)) % 3
    wrong = np.where(np.arange(len(x)) < 2 * BATCH, 9, y)
    with pytest.raises(ValueError, match="Received: label=9$"):
        fit(model, x, wrong)
    assert model.training.num_iterations == 0
    for each in (model, other):
        fit(each, x, y)
    assert model.training.num_iterations == other.training.num_iterations == 6
    # Dropout has not moved either.
    assert_same(values(model), values(other), rtol=1e-5)


def fails_if(failing):
    """A loss that fails while it is wanted, in the graph."""

    def loss(y, y_pred):
        with tf.control_dependencies([tf.debugging.assert_equal(
            failing.read_value(), False, "this is the cause"
        )]):
            return tf.reduce_mean(tf.square(y - y_pred), axis=-1)

    return loss


@pytest.mark.parametrize("run_eagerly", [False, True])
@pytest.mark.parametrize("algorithm", DELAYED)
def test_after_a_failure_queues_are_filled_anew(algorithm, run_eagerly):
    """What a failed call has left in some of them is not used."""
    failing = tf.Variable(False)
    network = dense_net()
    model, other = (algorithm(network, 3) for _ in range(2))
    x, _ = data()
    y = np.ones((len(x), 4), "float32")
    model.compile("sgd", fails_if(failing), run_eagerly=run_eagerly)
    other.compile("sgd", "mse")
    fit(model, x, y)
    failing.assign(True)
    with pytest.raises(Exception, match="this is the cause"):
        fit(model, x, y)
    assert model.training.num_iterations == 0
    failing.assign(False)
    for ours, theirs in zip(model.variables, other.variables):
        theirs.assign(ours)
    for each in (model, other):
        fit(each, x[::-1], y)
    assert_same(values(model), values(other), rtol=1e-5)


def test_wrong_labels_later_leave_the_queues_alone():
    network = dense_net(3)
    model, other = (fr_keras.FeaturesReplay(network, 3) for _ in range(2))
    x, _ = data()
    y = np.arange(len(x)) % 3
    for each in (model, other):
        each.compile("sgd", "sparse_categorical_crossentropy")
        fit(each, x, y)
    with pytest.raises(ValueError, match="label=-1$"):
        fit(model, x, y * 0 - 1)
    assert model.training.num_iterations == 6
    for each in (model, other):
        fit(each, x, y)
    assert_same(values(model), values(other), rtol=1e-5)


@pytest.mark.parametrize("steps", ["auto", 0, 2.5, None])
def test_steps_per_execution(steps):
    model = compiled(dense_net(3))
    with pytest.raises(
        ValueError,
        match=r"must be an integer, at least 1. Received: steps_per_execution="
        f"{steps!r}$",
    ):
        model.compile("sgd", "mse", steps_per_execution=steps)
    fit(model)  # As it was compiled before.


def test_scope_of_a_strategy():
    model = compiled(dense_net(3))
    fit(model)
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    for use in (
        lambda: model.compile("sgd", "mse"),
        lambda: model.fit(*data(), verbose=0),
        lambda: model.train_on_batch(*data(1)),
        lambda: model.evaluate(*data(), verbose=0),
        lambda: model.predict(data()[0], verbose=0),
    ):
        with strategy.scope(), pytest.raises(
            ValueError, match="outside of .*scope.*Received: strategy="
        ):
            use()
    fit(model)


def tagger():
    return keras.Sequential([
        keras.Input([None], dtype="int32"),
        layers.Embedding(20, 8, mask_zero=True),
        layers.Dense(8, "tanh"), layers.Dense(4),
    ])


@pytest.mark.parametrize("use", ["fit", "evaluate"])
@pytest.mark.parametrize("shape", [(16,), (16, 5, 2)])
def test_sample_weights_of_another_rank_than_the_mask(use, shape):
    model = fr_keras.FeaturesReplay(tagger(), 2)
    model.compile(
        "sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    before = [v.numpy() for v in model.variables]
    x = np.arange(80).reshape(16, 5) % 20
    with pytest.raises(ValueError, match=r"(?i)sample.weight|must match"):
        getattr(model, use)(
            x, x % 4, 4, sample_weight=np.ones(shape), verbose=0
        )
    for variable, value in zip(model.variables, before):
        np.testing.assert_array_equal(variable, value)


@pytest.mark.parametrize("shape", [(16, 5), (16, 5, 1)])
def test_sample_weights_of_a_mask_are_those_of_keras(shape):
    network = tagger()
    model = fr_keras.Backprop(network, 2)
    chance = np.random.default_rng(0)
    x, y = chance.integers(0, 20, (16, 5)), chance.integers(0, 4, (16, 5))
    for each in (model, network):
        each.compile(
            "sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            jit_compile=False,
        )
        each.fit(
            x, y, 4, sample_weight=chance.permuted(np.ones(shape)), verbose=0,
            shuffle=False,
        )
    assert_same(values(model), values(network), rtol=1e-5)


class Fails(layers.Layer):
    """Fails in the graph if it gets an infinite number."""

    def call(self, x):
        return tf.debugging.check_numerics(x, "this is the cause")


@pytest.mark.parametrize("fails", [0, 2])
def test_the_cause_is_reported_from_whichever_device(fails):
    """Not that the others, which wait for the module, are cancelled."""
    parts = [
        keras.Sequential([keras.Input([6]), layers.Dense(6)])
        for _ in range(3)
    ]
    parts[fails].add(Fails())
    model = fr_keras.FeaturesReplay(parts, devices=["CPU:1", "CPU:2", "CPU:3"])
    model.compile("sgd", "mse")
    x, _ = data()
    fit(model, x, x)
    with pytest.raises(
        tf.errors.InvalidArgumentError, match="this is the cause"
    ):
        fit(model, x * np.inf, x)
    assert model.training.num_iterations == 0


@pytest.mark.parametrize(
    "error", [
        tf.errors.ResourceExhaustedError(None, None, "out of memory"),
        MemoryError("out of memory"), KeyboardInterrupt("out of memory"),
    ],
)
@pytest.mark.parametrize("use", ["fit", "evaluate"])
def test_what_is_no_misfit_is_not_reported_as_one(error, use):
    def loss(y, y_pred):
        raise error

    model = compiled()
    model.compile("sgd", loss, run_eagerly=use == "evaluate")
    with pytest.raises(type(error), match="^(?!.*must match).*out of memory"):
        getattr(model, use)(*data(), verbose=0)


def test_modules_that_xla_cannot_compile():
    """They run without it, as a whole model of Keras does; the others with."""
    network = keras.Sequential([
        keras.Input([6, 6, 1]), layers.RandomRotation(0.2, seed=3),
        layers.Conv2D(2, 3), layers.Flatten(), layers.Dense(8, "tanh"),
        layers.Dense(3),
    ])
    model, plain = (fr_keras.Backprop(network, 2) for _ in range(2))
    x = np.random.default_rng(0).normal(size=(16, 6, 6, 1)).astype("float32")
    y = np.arange(16) % 3
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", loss, jit_compile=True)
    plain.compile("sgd", loss)
    names = [layer.name for layer in model.modules[0].layers]
    assert any("random_rotation" in name for name in names)
    with pytest.warns(
        UserWarning, match="Module 1 is not compiled .*: XLA.*random_rotation"
    ):
        fit(model, x, y)
    fit(plain, x, y)
    updates = [
        each._update for each in model.training.lockstep.update._updates
    ]
    assert [f._function._jit_compile for f in updates] == [False, True]
    assert_same(values(model), values(plain), rtol=1e-4)


def test_schedule_under_accumulation_is_that_of_keras():
    """Keras evaluates it at the number of the mini-batch."""
    network = dense_net(3)
    model = fr_keras.Backprop(network, 2)
    for each in (model, network):
        each.compile(
            keras.optimizers.SGD(
                keras.optimizers.schedules.ExponentialDecay(0.5, 2, 0.5),
                gradient_accumulation_steps=2,
            ),
            "mse", jit_compile=False,
        )
        fit(each, *data(7))
    assert_same(values(model), values(network), rtol=1e-6)
    assert int(model.optimizer.iterations) == 3
    assert int(network.optimizer.iterations) == 3
    assert model.optimizer.global_step == 7


@pytest.mark.parametrize("regularizer", [None, "l2"])
@pytest.mark.parametrize("algorithm", [
    fr_keras.Backprop, fr_keras.DDG, fr_keras.DNI, fr_keras.FeaturesReplay,
    functools.partial(fr_keras.GPipe, num_microbatches=1, recompute=False),
])
@pytest.mark.quick_cases("DDG-None", "algorithm4-l2")
def test_seed_that_is_set_after_compile(algorithm, regularizer):
    """Keras then makes its generator anew, in the first graph it traces."""
    network = keras.Sequential([keras.Input((6,)), *(
        layers.Dense(4, "tanh", kernel_regularizer=regularizer)
        for _ in range(3)
    )])
    x, _ = data()
    y = np.ones((len(x), 4), "float32")
    found = []
    for is_set_again in (False, True):
        model = algorithm(network, 3)
        model.compile(keras.optimizers.SGD(0.1, 0.5), "mse")
        if is_set_again:
            keras.utils.set_random_seed(0)
        fit(model, x, y)
        found.append(model.get_weights())
    for a, b in zip(*found, strict=True):
        assert np.all(np.isfinite(b))
        if algorithm is not fr_keras.DNI:  # (Its synthesizers begin anew.)
            np.testing.assert_array_equal(a, b)
