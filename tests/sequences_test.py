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
