"""Sequences whose length varies from batch to batch."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import fr_keras

layers = keras.layers


def transformer(length=None):
    tokens = keras.Input((length,), dtype="int32")
    x = layers.Embedding(20, 8, mask_zero=True)(tokens)
    for _ in range(2):
        attended = layers.MultiHeadAttention(2, 4)(x, x)
        x = layers.LayerNormalization()(x + attended)
        inner = layers.Dense(8)(layers.Dense(16, activation="gelu")(x))
        x = layers.LayerNormalization()(layers.Dropout(0.1)(x + inner))
    return keras.Model(tokens, layers.Dense(20)(x))


def lstm():
    return keras.Sequential(
        [
            keras.Input((None,), dtype="int32"),
            layers.Embedding(20, 8, mask_zero=True),
            layers.LSTM(16, return_sequences=True),
            layers.Bidirectional(layers.LSTM(8, return_sequences=True)),
            layers.Dense(20),
        ]
    )


@pytest.mark.parametrize("make, steps", [
    (transformer, 3), pytest.param(lstm, 1, marks=pytest.mark.slow)
])
def test_sequences_of_varying_length(make, steps):
    """Every batch has a length of its own; the task is to copy."""
    rng = np.random.default_rng(0)

    def batches():
        for i in range(120):
            length = 3 + i % 4
            tokens = rng.integers(1, 20, (8, length)).astype("int32")
            tokens[0, 2:] = 0
            yield tokens, tokens

    model = fr_keras.FeaturesReplay(make(), 3)
    model.compile(
        keras.optimizers.Adam(0.01),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        steps_per_execution=steps,
    )
    dataset = tf.data.Dataset.from_generator(
        batches, output_signature=(tf.TensorSpec([None, None], tf.int32),) * 2
    )
    losses = model.fit(
        dataset, epochs=6, verbose=0, shuffle=False
    ).history["loss"]
    assert losses[-1] < 0.1 * losses[0], losses


def lengths_open():
    keras.utils.set_random_seed(0)
    return keras.Sequential([
        keras.Input((None, 4)), layers.Conv1D(4, 3, padding="same"),
        layers.LSTM(5, return_sequences=True), layers.LayerNormalization(),
        layers.MaxPooling1D(2, padding="same"),
        layers.GlobalAveragePooling1D(), layers.Dense(6, activation="tanh"),
        layers.Dense(3),
    ])


def losses_of(model):
    """One `fit` after another, with lengths and batch sizes that come back."""
    model.compile(
        keras.optimizers.SGD(0.1, momentum=0.9), "mse", steps_per_execution=2
    )
    rng = np.random.default_rng(0)
    return [
        model.fit(
            rng.normal(size=(4 * batch, length, 4)).astype("float32"),
            rng.normal(size=(4 * batch, 3)).astype("float32"),
            batch_size=batch, shuffle=False, verbose=0,
        ).history["loss"]
        for length, batch in [(5, 4), (7, 4), (5, 4), (5, 8), (9, 4), (5, 4)]
    ]


@pytest.mark.parametrize("algorithm, options", [
    ("backprop", {}),
    pytest.param("gpipe", {"num_microbatches": 2}, marks=pytest.mark.slow),
    *(
        pytest.param(
            "pipeline", {"num_microbatches": 2, "schedule": schedule},
            marks=() if schedule == "zb-h1" else pytest.mark.slow,
        )
        for schedule in ("gpipe", "1f1b", "zb-h1", "zb-h2")
    ),
])
def test_lengths_and_sizes_that_come_back(algorithm, options):
    """Forward and backward pass are always those of the same trace."""
    model = fr_keras.ALGORITHMS[algorithm](
        lengths_open(), 2, ["CPU:0", "CPU:1"], **options
    )
    np.testing.assert_allclose(
        losses_of(model), losses_of(lengths_open()), rtol=1e-5
    )
