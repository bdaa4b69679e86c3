"""Tests of replicas: r pipelines train like one."""

import keras
import numpy as np
import pytest

import fr_keras
from tests import replicas_reference, tied_test
from tests.pipelines import (
    BATCH,
    EXAMPLES,
    MICROBATCHED,
    assert_alike,
    assert_copies_are_equal,
    data,
    fit,
    loss,
    made,
    net,
    sgd,
)

METHODS = ["Backprop", "FeaturesReplay", "DDG", *MICROBATCHED]


@pytest.mark.quick_cases("FeaturesReplay-3-2", "Backprop-1-3", "GPipe-2-3")
@pytest.mark.parametrize("replicas", [2, 3])
@pytest.mark.parametrize("num_modules", [1, 2, 3])
@pytest.mark.parametrize("method", METHODS)
def test_numbers_are_those_of_one_pipeline(
    float64, method, num_modules, replicas
):
    """Loss, accuracy and weights, with batches that r does not divide."""
    x, y = data(24 if method in MICROBATCHED else EXAMPLES)
    if method in MICROBATCHED:  # All micro-batches have the same size.
        x, y = np.tile(x, (replicas, 1)), np.tile(y, replicas)
    one, several = (made(method, num_modules, r) for r in (1, replicas))
    size = BATCH * (replicas if method in MICROBATCHED else 1) * 2
    logs = [
        model.fit(
            x, y, size, epochs=3, verbose=0, shuffle=False
        ).history for model in (one, several)
    ]
    assert_alike(one, several)
    assert logs[0].keys() == logs[1].keys()
    for name, values in logs[0].items():
        np.testing.assert_allclose(values, logs[1][name], 1e-9)
    assert_copies_are_equal(several)


@pytest.mark.quick_cases("adam")
@pytest.mark.parametrize("optimizer", [
    lambda: keras.optimizers.Adam(0.01),
    lambda: keras.optimizers.AdamW(
        0.01, clipnorm=0.1, gradient_accumulation_steps=2
    ),
    lambda: keras.optimizers.SGD(0.1, global_clipnorm=0.1, use_ema=True),
], ids=["adam", "adamw", "ema"])
def test_optimizers(float64, optimizer):
    x, y = data()
    one, several = (
        made("FeaturesReplay", 2, r, optimizer=optimizer()) for r in (1, 2)
    )
    for model in (one, several):
        fit(model, x, y)
    assert_alike(one, several)
    assert_copies_are_equal(several)


def test_gradients_of_embeddings(float64):
    """These are slices of a tensor, some of them of the same row."""
    def network():
        keras.utils.set_random_seed(1)
        return keras.Sequential([
            keras.Input((4,), dtype="int32"),
            keras.layers.Embedding(5, 6),
            keras.layers.Dense(6, activation="tanh"),
            keras.layers.GlobalAveragePooling1D(),
            keras.layers.Dense(3),
        ])

    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 5, (EXAMPLES, 4)), rng.integers(0, 3, EXAMPLES)
    one, several = (made("FeaturesReplay", 2, r, network()) for r in (1, 2))
    for model in (one, several):
        fit(model, x, y, epochs=1)
    assert_alike(one, several)
    assert_copies_are_equal(several)


@pytest.mark.slow
def test_tied_weights(float64):
    """These cross between the modules of each pipeline."""
    models = []
    for replicas in (1, 2):
        keras.utils.set_random_seed(1)
        models.append(fr_keras.FeaturesReplay(
            tied_test.language_model(), 2, replicas=replicas
        ))
        tied_test.trained(models[-1])
    assert_alike(*models)
    assert_copies_are_equal(models[1])


@pytest.mark.slow
def test_xla():
    x, y = data()
    models = [made("FeaturesReplay", 2, replicas) for replicas in (1, 2)]
    for model in models:
        model.compile(sgd(), loss(), jit_compile=True)
        fit(model, x, y, epochs=1)
    assert_alike(*models, rtol=1e-4)
    assert_copies_are_equal(models[1])


def test_synthesizers_learn_from_all_shards(float64, monkeypatch):
    """Without normalization, which would use the statistics of shards."""
    monkeypatch.setattr(
        "fr_keras.algorithms.dni.synthesizer",
        lambda shape, **options: keras.Sequential([
            keras.Input(shape[1:]),
            keras.layers.Dense(5, "tanh", dtype=options["dtype"]),
            keras.layers.Dense(shape[-1], dtype=options["dtype"]),
        ]),
    )
    x, y = data()
    one, several = (made("DNI", 3, replicas) for replicas in (1, 2))
    for model in (one, several):
        keras.utils.set_random_seed(2)  # For the first weights of these.
        fit(model, x, y)
    assert_alike(one, several)
    assert_copies_are_equal(several)


@pytest.mark.parametrize("replicas", [2, 3])
def test_batch_normalization(float64, replicas):
    """Statistics of shards, averages over copies."""
    x, y = data()
    network = net(normalized=True)

    def optimizer():  # (Keras computes schedules in float32.)
        return keras.optimizers.SGD(2.0**-4, momentum=0.875)

    model = made("FeaturesReplay", 1, replicas, network, optimizer())
    logs = fit(model, x, y, epochs=2)
    batches = [
        (x[i:i + BATCH], y[i:i + BATCH]) for i in range(0, EXAMPLES, BATCH)
    ]
    losses = replicas_reference.train(
        network, 2 * batches, replicas, optimizer(),
        lambda y, outputs: keras.losses.sparse_categorical_crossentropy(
            y, outputs, from_logits=True
        ),
    )
    for a, b in zip(model.get_weights(), network.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, 1e-9, 1e-9)
    sizes = [len(batch) for batch, _ in batches]
    for epoch, value in enumerate(logs["loss"]):
        of_epoch = losses[epoch * len(sizes):(epoch + 1) * len(sizes)]
        np.testing.assert_allclose(value, np.average(of_epoch, weights=sizes))
    assert_copies_are_equal(model)


def test_random_layers_differ_between_pipelines():
    """The same example in every shard must not get the same dropout."""
    x = np.ones((2, 7))
    model = made("Backprop", 1, 2, net(dropout=0.5))
    model.fit(x, np.zeros(2), batch_size=2, verbose=0)
    seeds = model.network_copies[0].seeds()
    ours = [
        layer.seed_generator.state for layer in model.layers
        if hasattr(layer, "seed_generator")
    ]
    assert len(seeds) == len(ours) == 4
    for a, b in zip(ours, seeds):
        (key, drawn), (other_key, other_drawn) = np.array(a), np.array(b)
        assert drawn == other_drawn > 0
        assert key != other_key


def two_tasks():
    keras.utils.set_random_seed(1)
    a, b = keras.Input((7,), name="a"), keras.Input((2,), name="b")
    x = keras.layers.Dense(6, activation="tanh")(a)
    x = keras.layers.Concatenate()([keras.layers.Dense(4)(x), b])
    x = keras.layers.Dense(6, activation="tanh")(x)
    x = keras.layers.ActivityRegularization(0.01)(x)
    return keras.Model([a, b], [
        keras.layers.Dense(3, name="kind")(x),
        keras.layers.Dense(1, name="size")(x),
    ])


def test_several_inputs_outputs_and_weights(float64):
    x, y = data()
    rng = np.random.default_rng(1)
    inputs = {"a": x, "b": rng.normal(size=(EXAMPLES, 2))}
    labels = [y, rng.normal(size=(EXAMPLES, 1))]
    weights = [rng.uniform(size=EXAMPLES), rng.uniform(size=EXAMPLES)]
    models, logs = [], []
    for replicas in (1, 2):
        model = fr_keras.FeaturesReplay(two_tasks(), 2, replicas=replicas)
        model.compile(
            sgd(), [loss(), "mse"], metrics=[["accuracy"], ["mae"]],
            weighted_metrics=[[], ["mse"]], steps_per_execution=2,
        )
        logs.append(fit(model, inputs, labels, sample_weight=weights))
        models.append(model)
    assert_alike(*models)
    assert logs[0].keys() == logs[1].keys() == {
        "loss", "kind_loss", "size_loss", "kind_accuracy", "size_mae",
        "size_mse",
    }
    for name, values in logs[0].items():
        np.testing.assert_allclose(values, logs[1][name], 1e-9)


def test_mixed_precision_overflow_skips_all_copies():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        network = net()
    finally:
        keras.config.set_dtype_policy("float32")
    x, y = data()
    x[0] = 1e30  # Overflows in the first shard only.
    model = made("FeaturesReplay", 2, 2, network, keras.optimizers.Adam(0.01))
    before = model.get_weights()
    model.fit(x[:BATCH], y[:BATCH], BATCH, verbose=0)
    for a, b in zip(model.get_weights(), before):
        np.testing.assert_array_equal(a, b)
    assert_copies_are_equal(model)
    fit(model, x[1:], y[1:])
    assert any((a != b).any() for a, b in zip(model.get_weights(), before))
    assert_copies_are_equal(model)


def test_skipped_updates():
    x, y = data()
    x[2] = np.nan
    model = made("FeaturesReplay", 2, 2)
    guard = fr_keras.OnNaN("skip")
    logs = fit(model, x, y, epochs=2, callbacks=[guard])
    assert guard.skipped == [2, 2]
    assert np.isfinite(logs["loss"]).all()
    assert_copies_are_equal(model)


class Assigns(keras.callbacks.Callback):
    """Assigns to weights while training."""

    def on_train_batch_end(self, batch, logs=None):
        for weight in self.model.trainable_variables:
            weight.assign(0.5 * weight)


def test_copies_follow_assignments(float64):
    """What a callback assigns must reach all copies."""
    x, y = data()
    one, several = (made("FeaturesReplay", 2, r) for r in (1, 2))
    for model in (one, several):
        fit(model, x, y, callbacks=[Assigns()])
        model.set_weights([2 * weight for weight in model.get_weights()])
        fit(model, x, y, epochs=1)
    assert_alike(one, several)


def test_frozen_layers(float64):
    """Freezing layers after the copies were made freezes those of copies."""
    x, y = data()
    models = [made("FeaturesReplay", 2, replicas) for replicas in (1, 2)]
    for model in models:
        fit(model, x, y, epochs=1)
        model.layers[1].trainable = False
        model.compile(sgd(), loss(), steps_per_execution=3)
        fit(model, x, y, epochs=1)
    assert_alike(*models)
    assert_copies_are_equal(models[1])


@pytest.mark.parametrize("call", ["never", "first", "after compile"])
def test_modules_that_are_not_built_yet(float64, call):
    def parts():
        keras.utils.set_random_seed(1)
        return [
            keras.Sequential([keras.layers.Dense(6, "tanh")]),
            keras.Sequential([keras.layers.Dense(3)]),
        ]

    x, y = data()
    models = []
    for replicas in (1, 2):
        models.append(
            fr_keras.FeaturesReplay(parts(), replicas=replicas)
        )
        keras.utils.set_random_seed(2)  # For the weights.
        if call == "first":
            models[-1](x)
        models[-1].compile(sgd(), loss())
        if call == "after compile":
            models[-1](x)
        fit(models[-1], x, y, epochs=1)
    assert_alike(*models)
    assert_copies_are_equal(models[1])


def test_drain(float64):
    x, y = data()
    one, several = (made("FeaturesReplay", 3, r) for r in (1, 2))
    for model in (one, several):
        fit(model, x, y, epochs=1)
        model.drain()
    assert_alike(one, several)


def test_saved_model(tmp_path):
    x, y = data()
    model = made("FeaturesReplay", 2, 2)
    fit(model, x, y, epochs=1)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.replicas == 2
    assert [p.devices for p in loaded.pipelines] == [
        p.devices for p in model.pipelines
    ]
    np.testing.assert_array_equal(loaded.predict(x), model.predict(x))
    fit(loaded, x, y, epochs=1)
    assert_copies_are_equal(loaded)
