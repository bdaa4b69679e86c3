"""Pipelines with any schedule, against back-propagation and references."""

import functools
import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

import fr_keras
from fr_keras import schedules
from fr_keras.profiling.module_times import ModuleTimes
from tests import agreement
from tests.gpipe_test import plain_gpipe, regularized_net
from tests.small_net import assert_same
from trainers.benchmarks import sleeping

layers = keras.layers
SCHEDULES = list(schedules.SCHEDULES)
OPTIMIZERS = {
    "momentum": lambda: keras.optimizers.SGD(0.1, 0.9, nesterov=True),
    "adam": lambda: keras.optimizers.Adam(0.01),
    "accumulated": lambda: keras.optimizers.Adam(
        0.01, gradient_accumulation_steps=2
    ),
    "decayed": lambda: keras.optimizers.SGD(
        keras.optimizers.schedules.ExponentialDecay(0.1, 2, 0.9), 0.9
    ),
}


def data(examples=24, inputs=6, outputs=3):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(examples, inputs))
    return x, rng.normal(size=(examples, outputs))


def plain_net():
    return keras.Sequential([
        keras.Input((6,)),
        *(layers.Dense(5, activation="tanh") for _ in range(5)),
        layers.Dense(3),
    ])


def trained(
    method, make, x, y, optimizer="momentum", loss="mse", sample_weight=None,
    **options,
):
    """Weights and history after two epochs of batches of eight."""
    keras.utils.set_random_seed(1)
    model = method(make(), **options)
    model.compile(
        OPTIMIZERS[optimizer](), loss, steps_per_execution=2,
        metrics={"one": "mae"} if isinstance(loss, dict) else ["mae"],
    )
    history = model.fit(
        x, y, 8, 2, verbose=0, shuffle=False, sample_weight=sample_weight
    ).history
    return [v.numpy() for v in model.weights], history


def in_turns(num_modules, num_microbatches, replicas=1):
    """Modules in turns on two devices of each pipeline, or on one."""
    count = 1 if num_modules % 2 or num_microbatches % 2 else 2
    return [
        f"CPU:{count * copy + k % count}"
        for copy in range(replicas) for k in range(num_modules)
    ]


def check_same_as_backprop(make, x, y, schedule, **options):
    own = {
        name: options.pop(name)
        for name in ("num_modules", "num_microbatches", "recompute", "replicas")
        if name in options
    }
    if schedule == schedules.INTERLEAVED:
        own = {"num_modules": 4, "num_microbatches": 4} | own
        own["devices"] = in_turns(
            own["num_modules"], own["num_microbatches"],
            own.get("replicas", 1),
        )
    expected, logs = trained(
        fr_keras.Backprop, make, x, y, num_modules=2, **options
    )
    actual, own_logs = trained(
        fr_keras.Pipeline, make, x, y, schedule=schedule,
        **{"num_modules": 3} | own, **options,
    )
    assert_same(actual, expected, rtol=1e-9)
    assert own_logs.keys() == logs.keys()
    for name in logs:
        np.testing.assert_allclose(own_logs[name], logs[name], rtol=1e-9)


def sizes():
    """Few of them quick; the rest is of the same kind."""
    for schedule, K, M in itertools.product(
        SCHEDULES, [1, 2, 3, 4], [1, 2, 4, 8]
    ):
        fast = schedule != "gpipe" and (K, M) == (
            (4, 4) if schedule == schedules.INTERLEAVED else (3, 8)
        )
        yield pytest.param(
            schedule, K, M, marks=[pytest.mark.slow] * (not fast)
        )


@pytest.mark.parametrize("schedule, K, M", list(sizes()))
def test_same_as_backprop(float64, schedule, K, M):
    check_same_as_backprop(
        plain_net, *data(), schedule, num_modules=K, num_microbatches=M
    )


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.quick_cases("zb-h1-adam", "1f1b-accumulated")
def test_optimizers(float64, schedule, optimizer):
    check_same_as_backprop(
        plain_net, *data(), schedule, optimizer=optimizer,
        sample_weight=np.random.default_rng(3).uniform(size=24),
    )


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.quick_cases("False-zb-h2", "True-zb-h1")
def test_losses_of_layers(float64, schedule, recompute):
    interleaved = schedule == schedules.INTERLEAVED
    check_same_as_backprop(
        regularized_net, *data(), schedule, recompute=recompute,
        num_modules=2 if interleaved else 3,
    )


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.quick_cases("zb-h1")
def test_replicas(float64, schedule):
    check_same_as_backprop(
        plain_net, *data(), schedule, num_modules=2, replicas=2,
        num_microbatches=2,
    )


def several_outputs():
    """Skips over modules, two inputs, two outputs, a frozen first layer."""
    a, b = keras.Input((6,), name="a"), keras.Input((6,), name="b")
    first = layers.Dense(5, trainable=False)
    x = first(a)
    skip = layers.Dense(5, activation="tanh")(b)
    for _ in range(3):
        x = layers.Dense(5, activation="tanh")(x)
    x = layers.Add()([x, skip])
    return keras.Model({"a": a, "b": b}, {
        "one": layers.Dense(3, name="one")(x),
        "two": layers.Dense(2, name="two")(layers.Dense(4)(x)),
    })


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.quick_cases("1f1b", "zb-h2")
def test_several_inputs_and_outputs(float64, schedule):
    x, y = data()
    z, w = data(outputs=2)
    check_same_as_backprop(
        several_outputs, {"a": x, "b": z[::-1].copy()}, {"one": y, "two": w},
        schedule, loss={"one": "mse", "two": "mae"}, num_modules=4,
    )


def mostly_frozen_net():
    network = plain_net()
    for layer in network.layers[:4]:
        layer.trainable = False
    return network


def test_nothing_to_learn_below(float64):
    """Modules of frozen layers have no backward pass."""
    for schedule in ("1f1b", "zb-h1"):
        check_same_as_backprop(
            mostly_frozen_net, *data(), schedule, num_modules=4
        )


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.quick_cases("zb-h1")
def test_batch_normalization(float64, schedule):
    """Statistics are those of a micro-batch, against the plain reference."""
    K, options = 3, {}
    if schedule == schedules.INTERLEAVED:
        K, options = 4, {"devices": in_turns(4, 4)}
    agreement.check(
        fr_keras.Pipeline, plain_gpipe(4), K, agreement.convolutional_net,
        "nesterov", steps=3, examples=48, num_microbatches=4,
        schedule=schedule, **options,
    )


@pytest.mark.parametrize("schedule", ["1f1b", "zb-h1"])
def test_eager_execution(float64, schedule):
    expected, _ = trained(
        fr_keras.Backprop, plain_net, *data(), num_modules=2
    )
    keras.utils.set_random_seed(1)
    model = fr_keras.Pipeline(plain_net(), 3, schedule=schedule)
    model.compile(OPTIMIZERS["momentum"](), "mse", run_eagerly=True)
    model.fit(*data(), 8, 2, verbose=0, shuffle=False)
    assert_same([v.numpy() for v in model.weights], expected, rtol=1e-9)


def test_dropout_of_backward_pass_and_weights_is_that_of_forward_pass():
    """What is dropped has no gradient, in whichever part it is computed."""
    for recompute in (False, True):
        inputs = keras.Input((50,))
        hidden = layers.Dropout(0.5, seed=1)(layers.Rescaling(1.0)(inputs))
        outputs = layers.Dense(1, use_bias=False, name="d")(hidden)
        model = fr_keras.Pipeline(
            keras.Model(inputs, outputs), 1, num_microbatches=2,
            schedule="zb-h1", recompute=recompute,
        )
        model.compile(keras.optimizers.SGD(1.0), "mae")
        before = model.get_layer("d").kernel.numpy()
        model.fit(np.ones((2, 50)), np.full((2, 1), -1e3), verbose=0)
        change = (before - model.get_layer("d").kernel.numpy()).ravel()
        # Each of two micro-batches keeps half of the inputs, times two.
        assert set(np.round(change, 5)) == {0.0, 1.0, 2.0}


def test_devices_keep_the_order():
    """The graph makes each piece of work wait for the one before."""
    for schedule, K, M, D in (
        ("1f1b", 3, 6, 3), ("zb-h1", 3, 6, 3), ("interleaved-1f1b", 4, 4, 2)
    ):
        run = sleeping.prepare(
            functools.partial(
                fr_keras.Pipeline, num_microbatches=M, schedule=schedule,
                devices=[f"CPU:{k % D}" for k in range(K)],
            ),
            [ModuleTimes(forward=0.02, backward=0.04)] * K,
            steps_per_execution=1, num_steps=1, batch_size=M,
        )
        events = run()
        for of_one in schedules.order(schedule, K, M, D):
            modules = {work.module for work in of_one}
            mine = sorted(
                (event.start, event.kind, event.module) for event in events
                if event.module in modules
                and event.kind in ("play", "backward")
            )
            assert [of_event[1:] for of_event in mine] == [
                ({"forward": "play"}.get(work.kind, work.kind), work.module)
                for work in of_one if work.kind != "weights"
            ]


def test_what_is_refused():
    with pytest.raises(ValueError, match="must be one of gpipe, 1f1b, zb-h1"):
        fr_keras.Pipeline(plain_net(), 2, schedule="2f2b")
    with pytest.raises(ValueError, match="`num_microbatches` must be"):
        fr_keras.Pipeline(plain_net(), 2, num_microbatches=0)
    interleaved = functools.partial(
        fr_keras.Pipeline, plain_net(), schedule="interleaved-1f1b"
    )
    for num_modules, devices, message in (
        (3, ["CPU:0", "CPU:1"], "multiples of the number of devices"),
        (3, None, "Received: num_modules=3, num_microbatches=4, 3 devices"),
        (4, ["CPU:0", "CPU:0", "CPU:1", "CPU:1"], "must take turns"),
        ("auto", None, "leaves nothing to interleave"),
    ):
        with pytest.raises(ValueError, match=message):
            interleaved(num_modules=num_modules, devices=devices)
    model = fr_keras.Pipeline(plain_net(), 2)
    model.compile("sgd", keras.losses.MeanSquaredError(reduction="sum"))
    x, y = data()
    with pytest.raises(ValueError, match="With `schedule='1f1b'`, losses must"):
        model.fit(x, y, 8, verbose=0)
    with pytest.raises(ValueError, match="divisible by num_microbatches=4"):
        model.fit(x, y, 6, verbose=0)


def test_masked_outputs_are_refused():
    """Keras averages over unmasked steps, of which batches have their own."""
    network = keras.Sequential([
        keras.Input((5,), dtype="int32"),
        layers.Embedding(4, 3, mask_zero=True), layers.Dense(3),
    ])
    model = fr_keras.Pipeline(network, 2, num_microbatches=2)
    model.compile("sgd", "mse")
    before = model.get_weights()
    x = np.arange(20).reshape((4, 5)) % 4
    with pytest.raises(ValueError, match="Use `schedule='gpipe'`"):
        model.fit(x, np.ones((4, 5, 3)), verbose=0)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_configuration_is_saved(tmp_path):
    model = fr_keras.Pipeline(
        plain_net(), 2, num_microbatches=2, schedule="zb-h2", recompute=True
    )
    model.compile("sgd", "mse")
    model.fit(*data(), 8, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert (loaded.num_microbatches, loaded.schedule, loaded.recompute) == (
        2, "zb-h2", True
    )
    x, _ = data()
    np.testing.assert_array_equal(loaded.predict(x), model.predict(x))


def test_float16_with_loss_scaling():
    """The scale is that of the module above, as for other methods."""
    with tf.device(None):
        model = fr_keras.Pipeline(plain_net(), 3, schedule="zb-h1")
    keras.config.set_dtype_policy("mixed_float16")
    try:
        keras.utils.set_random_seed(1)
        model = fr_keras.Pipeline(plain_net(), 3, schedule="zb-h1")
        model.compile(keras.optimizers.SGD(0.1), "mse")
        before = [v.numpy() for v in model.weights]
        model.fit(*data(), 8, 1, verbose=0, shuffle=False)
        half = [v.numpy() - b for v, b in zip(model.weights, before)]
    finally:
        keras.config.set_dtype_policy("float32")
    keras.utils.set_random_seed(1)
    whole = fr_keras.Backprop(plain_net(), 3)
    whole.compile(keras.optimizers.SGD(0.1), "mse")
    whole.fit(*data(), 8, 1, verbose=0, shuffle=False)
    full = [v.numpy() - b for v, b in zip(whole.weights, before)]
    assert_same(half, full, rtol=0.1)
