"""Features Replay of micro-batches, against that of whole mini-batches."""

import functools

import keras
import numpy as np
import pytest

import fr_keras
from fr_keras.profiling.module_times import ModuleTimes
from tests import small_net
from tests.exact_pipeline_test import (
    OPTIMIZERS,
    data,
    mostly_frozen_net,
    plain_net,
    several_outputs,
)
from tests.gpipe_test import regularized_net
from tests.small_net import assert_same
from trainers.benchmarks import sleeping

layers = keras.layers


def trained(
    make, x, y, optimizer="momentum", loss="mse", sample_weight=None,
    drains=False, run_eagerly=False, **options,
):
    """Weights and history after two epochs of batches of eight."""
    keras.utils.set_random_seed(1)
    model = fr_keras.FeaturesReplay(make(), **options)
    model.compile(
        OPTIMIZERS[optimizer](), loss, run_eagerly=run_eagerly,
        steps_per_execution=1 if run_eagerly else 2,
        metrics={"one": "mae"} if isinstance(loss, dict) else ["mae"],
    )
    history = model.fit(
        x, y, 8, 2, verbose=0, shuffle=False, sample_weight=sample_weight
    ).history
    if drains:
        model.drain()
    return [v.numpy() for v in model.weights], history


def check_same(make, x, y, num_microbatches=4, **options):
    options = {"num_modules": 3} | options
    (expected, logs), (actual, own_logs) = (
        trained(make, x, y, num_microbatches=M, **options)
        for M in (1, num_microbatches)
    )
    assert_same(actual, expected, rtol=1e-9)
    assert own_logs.keys() == logs.keys()
    for name in logs:
        np.testing.assert_allclose(own_logs[name], logs[name], rtol=1e-9)


@pytest.mark.parametrize("num_microbatches", [2, 4, 8])
@pytest.mark.parametrize("num_modules", [1, 2, 3, 4])
@pytest.mark.quick_cases("1-2", "4-4")
def test_same_as_whole_batches(float64, num_modules, num_microbatches):
    check_same(
        plain_net, *data(), num_microbatches, num_modules=num_modules,
        sample_weight=np.random.default_rng(3).uniform(size=24),
    )


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("options", [
    {"weight_prediction": False, "gradient_shrink": 0.5}, {"drains": True},
    {"run_eagerly": True}, {"replicas": 2, "num_microbatches": 2},
], ids=["shrinks", "drains", "eager", "replicas"])
@pytest.mark.quick_cases(
    "shrinks-adam", "drains-momentum", "eager-momentum", "replicas-decayed"
)
def test_options(float64, optimizer, options):
    check_same(plain_net, *data(), optimizer=optimizer, **options)


def test_losses_of_layers(float64):
    check_same(regularized_net, *data())


@pytest.mark.parametrize("replicas", [1, 2])
@pytest.mark.quick_cases("1")
def test_several_inputs_and_outputs(float64, replicas):
    x, y = data()
    z, w = data(outputs=2)
    check_same(
        several_outputs, {"a": x, "b": z[::-1].copy()}, {"one": y, "two": w},
        2, loss={"one": "mse", "two": "mae"}, num_modules=4, replicas=replicas,
    )


def test_nothing_to_learn_below(float64):
    check_same(mostly_frozen_net, *data(), num_modules=4)


def test_batch_normalization(float64):
    """Each micro-batch by its own statistics; averages move once per batch."""

    def make():
        return keras.Sequential([
            keras.Input((6,)), layers.Dense(5),
            layers.BatchNormalization(momentum=0.5, name="bn"), layers.Dense(3),
        ])

    x, y = data(8)
    keras.utils.set_random_seed(1)
    model = fr_keras.FeaturesReplay(make(), 2, num_microbatches=2)
    kernel, bias = (w.copy() for w in model.layers[0].get_weights())
    model.compile("sgd", "mse")
    model.fit(x, y, 8, verbose=0, shuffle=False)
    h = x @ kernel + bias
    means = [half.mean(0) for half in (h[:4], h[4:])]
    variances = [half.var(0) for half in (h[:4], h[4:])]
    bn = model.get_layer("bn")
    np.testing.assert_allclose(
        bn.moving_mean.numpy(), 0.5 * np.mean(means, 0), rtol=1e-6
    )
    np.testing.assert_allclose(
        bn.moving_variance.numpy(), 0.5 + 0.5 * np.mean(variances, 0),
        rtol=1e-6,
    )


def test_dropout_is_replayed():
    """A replayed micro-batch drops what its play dropped: fewer layers differ.

    With weights that stay the same, late gradients are those of one module.
    """
    weights = []
    for num_modules in (1, 2):
        keras.utils.set_random_seed(1)
        inputs = keras.Input((50,))
        hidden = layers.Dense(
            1, use_bias=False, kernel_initializer="ones", name="d"
        )(layers.Dropout(0.5, seed=1)(layers.Rescaling(1.0)(inputs)))
        outputs = layers.Dense(
            1, use_bias=False, kernel_initializer="ones", trainable=False
        )(hidden)
        model = fr_keras.FeaturesReplay(
            keras.Model(inputs, outputs), num_modules, num_microbatches=2,
            weight_prediction=False,
        )
        model.compile(keras.optimizers.SGD(1e-3), "mae")
        model.fit(
            np.ones((8, 50)), np.full((8, 1), -1e3), 4, verbose=0,
            shuffle=False,
        )
        if num_modules > 1:
            model.drain()
        weights.append(model.get_layer("d").kernel.numpy())
    np.testing.assert_allclose(*weights, rtol=1e-6)
    assert len(np.unique(np.round(weights[0], 5))) > 1  # It did drop some.


def test_modules_take_turns():
    """Play, replay and backward pass of one micro-batch, then of the next."""
    K, M = 3, 4
    run = sleeping.prepare(
        functools.partial(fr_keras.FeaturesReplay, num_microbatches=M),
        [ModuleTimes(forward=0.02, backward=0.04)] * K,
        steps_per_execution=2, num_steps=2, batch_size=M,
    )
    events = run()
    for k in range(K):
        mine = sorted(
            (event.start, event.kind) for event in events
            if event.module == k and event.kind != "update"
        )
        of_one = ["play", "replay", "backward"] if k < K - 1 else [
            "play", "backward"
        ]
        assert [kind for _, kind in mine] == of_one * M * 2


def test_what_is_refused():
    x, y = data()
    for number in (0, 1.5, True):
        with pytest.raises(ValueError, match="`num_microbatches` must be"):
            fr_keras.FeaturesReplay(plain_net(), 2, num_microbatches=number)
    with pytest.raises(ValueError, match="only Features Replay and exact"):
        fr_keras.DDG(plain_net(), 2, num_microbatches=2)
    model = fr_keras.FeaturesReplay(plain_net(), 2, num_microbatches=4)
    model.compile("sgd", keras.losses.MeanSquaredError(reduction="sum"))
    with pytest.raises(ValueError, match="`num_microbatches` above 1, losses"):
        model.fit(x, y, 8, verbose=0)
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="divisible by num_microbatches=4"):
        model.fit(x, y, 6, verbose=0)
    with pytest.raises(ValueError, match="`num_microbatches=1`"):
        model.fit(
            x, y, 8, verbose=0,
            callbacks=[fr_keras.diagnostics.DeltaResidual(every=2)],
        )


def test_own_pipelines_are_not_replaced():
    """A subclass with steps of its own would train by other ones."""

    class Mine(fr_keras.FeaturesReplay):
        class pipeline_class(fr_keras.FeaturesReplay.pipeline_class):
            pass

    assert isinstance(Mine(plain_net(), 2).pipeline, Mine.pipeline_class)
    with pytest.raises(ValueError, match="num_microbatches=2 for Mine"):
        Mine(plain_net(), 2, num_microbatches=2)


def test_saved(tmp_path):
    model = fr_keras.FeaturesReplay(small_net.net(), 3, num_microbatches=2)
    model.compile("sgd", "mse")
    small_net.fit(model)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert again.num_microbatches == 2
    assert type(again.pipeline).__name__ == "PiecewiseReplayPipeline"
    small_net.fit(again)


@pytest.mark.parametrize("link_dtype", [None, "bfloat16"])
def test_resumed(link_dtype, tmp_path):
    """Queues with all micro-batches are restored: the same bits."""

    def compiled():
        keras.utils.set_random_seed(1)
        model = fr_keras.FeaturesReplay(
            small_net.net(), 3, num_microbatches=2, link_dtype=link_dtype
        )
        model.compile(keras.optimizers.Adam(0.01), "mse")
        return model

    unbroken = compiled()
    small_net.fit(unbroken, epochs=4)
    for epochs in (2, 4):
        resumed = compiled()
        small_net.fit(
            resumed, epochs=epochs,
            callbacks=[fr_keras.Checkpoints(tmp_path / "checkpoints")],
        )
    for a, b in zip(
        small_net.values(unbroken), small_net.values(resumed), strict=True
    ):
        np.testing.assert_array_equal(a, b)


def test_float16():
    """Scaled losses and error gradients, one scale for all micro-batches."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        weights = []
        for M in (1, 4):
            keras.utils.set_random_seed(1)
            model = fr_keras.FeaturesReplay(
                plain_net(), 3, num_microbatches=M
            )
            model.compile(keras.optimizers.SGD(0.1), "mse")
            model.fit(*data(), 8, 2, verbose=0, shuffle=False)
            weights.append(model.get_weights())
    finally:
        keras.config.set_dtype_policy(before)
    for a, b in zip(*weights, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=5e-3)


def test_bad_batches_are_skipped():
    """A batch with NaN leaves no trace in weights and averages."""
    x, y = (array.astype("float32") for array in data(32))
    x[8:16] = np.nan

    def make():
        return keras.Sequential([
            keras.Input((6,)), layers.Dense(5), layers.BatchNormalization(),
            layers.Dense(3),
        ])

    model = fr_keras.FeaturesReplay(make(), 2, num_microbatches=2)
    model.compile("sgd", "mse")
    model.fit(
        x, y, 8, verbose=0, shuffle=False, callbacks=[fr_keras.OnNaN("skip")]
    )
    assert all(np.isfinite(weight).all() for weight in model.get_weights())
