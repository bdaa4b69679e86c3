"""GPipe against its plain reference, and against back-propagation."""

import functools
import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

import fr_keras
from fr_keras.profiling.module_times import ModuleTimes
from tests import agreement, reference
from tests.small_net import assert_same, compiled, fit
from trainers.benchmarks import sleeping

layers = keras.layers


def plain_gpipe(num_microbatches):
    """Micro-batches one after the other; statistics are of each by itself."""

    def train(modules, optimizer, learning_rate, batches):
        rules = [optimizer() for _ in modules]
        losses = []
        for t, (x, y) in enumerate(batches):
            weights = [sum(module.weights, []) for module in modules]
            before = [module.statistics for module in modules]
            moved = []
            with tf.GradientTape() as tape:
                tape.watch(weights)
                outputs = []
                for h in np.split(x, num_microbatches):
                    h = tf.constant(h)
                    for module, statistics in zip(modules, before):
                        module.statistics = list(statistics)
                        h = module.forward(module.weights, h, True)
                    outputs.append(h)
                    moved.append([m.statistics for m in modules])
                loss = reference.cross_entropy(y, tf.concat(outputs, 0))
            losses.append(float(loss))
            gradients = tape.gradient(loss, weights)
            for k, module in enumerate(modules):
                module.statistics = [
                    [np.mean(values, 0) for values in zip(*of_layer)]
                    for of_layer in zip(*[of_all[k] for of_all in moved])
                ]
                reference.update(
                    module, rules[k], gradients[k], learning_rate(t)
                )
        return losses

    return train


def cases():
    for num_modules, net, num_microbatches, recompute in itertools.product(
        [1, 2, 3, 4], [agreement.dense_net, agreement.convolutional_net],
        [2, 4], [True, False],
    ):
        fast = (num_microbatches == 4) == recompute and (
            net is agreement.convolutional_net or num_modules == 3
        )
        yield pytest.param(
            num_modules, net, num_microbatches, recompute,
            marks=[pytest.mark.slow] * (not fast),
        )


@pytest.mark.parametrize(
    "num_modules, net, num_microbatches, recompute", list(cases())
)
@pytest.mark.quick_cases("2-convolutional_net-4-True", "3-dense_net-2-False")
def test_agrees_with_reference(
    float64, num_modules, net, num_microbatches, recompute
):
    agreement.check(
        fr_keras.GPipe, plain_gpipe(num_microbatches), num_modules, net,
        "nesterov", steps=3, examples=48, num_microbatches=num_microbatches,
        recompute=recompute,
    )


def trained(algorithm, network, x, y, loss="mse", fit_options=None, **options):
    model = algorithm(network, 3, **options)
    model.compile(keras.optimizers.SGD(0.1, momentum=0.875), loss)
    history = model.fit(
        x, y, batch_size=8, epochs=2, shuffle=False, verbose=0,
        **(fit_options or {}),
    )
    return [v.numpy() for v in model.weights], history.history["loss"]


def check_same_as_backprop(network, x, y, **options):
    expected, losses = trained(fr_keras.Backprop, network, x, y, **options)
    for recompute in (True, False):
        actual, own_losses = trained(
            fr_keras.GPipe, network, x, y, recompute=recompute, **options
        )
        assert_same(actual, expected, rtol=1e-10)
        np.testing.assert_allclose(own_losses, losses, rtol=1e-10)


def regularized_net():
    return keras.Sequential([
        keras.Input((6,)),
        layers.Dense(5, activation="tanh", kernel_regularizer="l2"),
        layers.Dense(5, activation="tanh", activity_regularizer="l2"),
        layers.Dense(3, bias_regularizer="l1"),
    ])


@pytest.mark.parametrize(
    "loss", ["mse", keras.losses.MeanSquaredError(reduction="sum")]
)
def test_weights_and_losses_of_layers_as_in_backprop(float64, loss):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(24, 6)), rng.normal(size=(24, 3))
    check_same_as_backprop(
        regularized_net(), x, y, loss=loss,
        fit_options={"sample_weight": rng.uniform(size=24)},
    )


def test_masks_as_in_backprop(float64):
    """A mean over what is not masked is not a mean of means."""
    network = keras.Sequential([
        keras.Input((5,), dtype="int32"),
        layers.Embedding(9, 4, mask_zero=True),  # Its gradients are slices.
        layers.LSTM(4, return_sequences=True),
        layers.Dense(2),
    ])
    rng = np.random.default_rng(0)
    x = rng.integers(0, 3, (16, 5)).astype("int32")
    check_same_as_backprop(network, x, rng.normal(size=(16, 5, 2)))


def test_skips_and_several_outputs_as_in_backprop(float64):
    inputs = keras.Input((6,))
    a = layers.Dense(5, activation="tanh")(inputs)
    b = layers.Dense(5, activation="tanh")(a)
    c = layers.Dense(5, activation="tanh")(layers.Concatenate()([a, b]))
    outputs = [layers.Dense(3)(c + a), layers.Dense(2, name="early")(a)]
    rng = np.random.default_rng(0)
    x = rng.normal(size=(16, 6))
    y = [rng.normal(size=(16, 3)), rng.normal(size=(16, 2))]
    check_same_as_backprop(
        keras.Model(inputs, outputs), x, y, loss=["mse", "mae"]
    )


def test_micro_batches_draw_different_random_numbers():
    """And draw them again in the backward pass."""
    seen = []

    @keras.saving.register_keras_serializable("gpipe_test")
    class Seeing(layers.Dense):
        def call(self, x):
            seen.append(x.numpy() if hasattr(x, "numpy") else None)
            return super().call(x)

    network = keras.Sequential([
        keras.Input((50,)), layers.Dropout(0.5, seed=1), Seeing(1),
        layers.Dense(1),
    ])
    model = fr_keras.GPipe(network, 2, num_microbatches=2)
    model.compile("sgd", "mse", run_eagerly=True)
    model.train_on_batch(np.ones([2, 50], "float32"), np.ones([2, 1]))
    first, second, *replayed = seen[-4:]
    assert (first != second).any()
    np.testing.assert_array_equal(replayed, [second, first])


@pytest.mark.parametrize("examples", [3, 6])
def test_batch_that_does_not_divide(examples):
    model = fr_keras.GPipe(regularized_net(), 2, num_microbatches=4)
    model.compile("sgd", "mse")
    before = [v.numpy() for v in model.weights]
    x, y = np.ones([examples, 6]), np.ones([examples, 3])
    with pytest.raises(
        ValueError,
        match=f"num_microbatches=4.*Received: batch_size={examples}$",
    ) as raised:
        model.train_on_batch(x, y)
    assert "\n" not in str(raised.value)
    assert_same([v.numpy() for v in model.weights], before)


@pytest.mark.parametrize("num_microbatches", [0, -1, 2.5])
def test_bad_number_of_microbatches(num_microbatches):
    with pytest.raises(ValueError, match=f"Received: .*={num_microbatches}"):
        fr_keras.GPipe(
            regularized_net(), 2, num_microbatches=num_microbatches
        )


@pytest.mark.parametrize("recompute", [False, True])
def test_micro_batches_overlap(recompute):
    """A module works on one while its neighbours work on others."""
    K, M = 3, 4
    run = sleeping.prepare(
        functools.partial(
            fr_keras.GPipe, num_microbatches=M, recompute=recompute
        ),
        [ModuleTimes(forward=0.02, backward=0.04)] * K,
        steps_per_execution=1, num_steps=1, batch_size=M,
    )
    events = run()
    kinds = ["play", "backward"] + ["replay"] * recompute
    for kind in kinds:
        assert sum(e.kind == kind for e in events) == K * M
    for kind in kinds:
        of_kind = sorted(
            (e for e in events if e.kind == kind), key=lambda e: e.start
        )
        together = sum(
            a.module != b.module and b.start < a.stop
            for a, b in itertools.combinations(of_kind, 2)
        )
        # In the middle of the pipeline, M - K + 1 times three at once.
        assert together >= 2 * (M - 1) - 2


def test_averages_move_once_for_a_mini_batch():
    model = compiled(algorithm=fr_keras.GPipe)
    x = np.random.default_rng(0).normal(size=(4, 6)).astype("float32")
    norm = next(
        layer for module in model.modules for layer in module.layers
        if isinstance(layer, layers.BatchNormalization)
    )
    dense = model.to_keras().layers[0]
    fit(model, x, np.zeros([4, 3], "float32"))
    np.testing.assert_allclose(
        norm.moving_mean, 0.01 * np.mean(dense(x), 0), rtol=1e-4
    )


def test_random_numbers_that_keras_has_forgotten():
    """Its generator is made anew outside of the graph that is traced."""
    network = keras.Sequential([
        keras.Input((3,)), *(layers.Dense(4) for _ in range(4))
    ])
    model = fr_keras.GPipe(network, 2, num_microbatches=2)
    model.compile("sgd", "mse")
    keras.src.backend.common.global_state.clear_session()
    model.fit(np.ones((4, 3)), np.ones((4, 4)), verbose=0)
