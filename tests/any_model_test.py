"""Any Keras model, against the reference for any model, in float64."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.comparison import BATCH, check

layers = keras.layers
BATCHES = 9


def squares(outputs, y):
    return tf.reduce_mean(tf.reduce_mean((outputs - y) ** 2, -1))


def data(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=(BATCH * BATCHES, *shape))


AHEAD = pytest.mark.parametrize("ahead", [False, True])


@AHEAD
def test_random_layers_replay_their_numbers(float64, ahead):
    network = keras.Sequential(
        [
            keras.Input((6,)),
            layers.GaussianNoise(0.25, seed=1),
            layers.Dense(8, activation="tanh"),
            layers.Dropout(0.5, seed=2),
            layers.Dense(8),
            layers.GaussianDropout(0.25, seed=3),
            layers.Dense(8, activation="tanh"),
            layers.AlphaDropout(0.25, seed=4),
            layers.Dense(3),
        ]
    )
    y = data(3)
    check(
        network, data(6), (y,), squares, ahead=ahead, loss="mse", fit={"y": y}
    )


@AHEAD
def test_losses_of_layers(float64, ahead):
    """Regularizers, activity regularizers and `add_loss`."""

    class Penalized(layers.Layer):
        def call(self, x):
            self.add_loss(0.0625 * tf.reduce_mean(x**2))
            return 2.0 * x

    network = keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(
                8, activation="tanh", kernel_regularizer=keras.regularizers.L2(
                    2.0**-6
                )
            ),
            Penalized(),
            layers.Dense(
                8, activity_regularizer=keras.regularizers.L2(2.0**-6)
            ),
            layers.Dense(8, bias_regularizer=keras.regularizers.L2(2.0**-6)),
            Penalized(),
            layers.Dense(3, kernel_regularizer=keras.regularizers.L2(2.0**-6)),
        ]
    )
    y = data(3)
    check(
        network, data(6), (y,), squares, ahead=ahead, rate=2.0**-6, loss="mse",
        fit={"y": y},
    )


@AHEAD
def test_only_losses_of_layers(float64, ahead):
    """An autoencoder that needs neither labels nor a loss of `compile`."""

    class Reconstruction(layers.Layer):
        def call(self, x, decoded):
            self.add_loss(keras.ops.mean((x - decoded) ** 2))
            return decoded

    inputs = keras.Input((6,))
    code = layers.Dense(3, activation="tanh")(layers.Dense(5)(inputs))
    decoded = layers.Dense(6)(layers.Dense(5, activation="tanh")(code))
    network = keras.Model(inputs, Reconstruction()(inputs, decoded))
    check(network, data(6), (), lambda outputs: 0.0, ahead=ahead, fit={})


def unet():
    inputs = keras.Input((8, 8, 2))
    x, skips = inputs, []
    for channels in (3, 4):
        x = layers.Conv2D(channels, 3, padding="same", activation="tanh")(x)
        skips.append(x)
        x = layers.AveragePooling2D(2)(x)
    x = layers.Conv2D(5, 3, padding="same", activation="tanh")(x)
    for channels in (4, 3):
        x = layers.Conv2DTranspose(channels, 2, strides=2)(x)
        x = layers.Concatenate()([x, skips.pop()])
        x = layers.Conv2D(channels, 3, padding="same", activation="tanh")(x)
    return keras.Model(inputs, layers.Conv2D(1, 1)(x))


@AHEAD
def test_unet(float64, ahead):
    """Skips from the first modules to the last."""
    y = data(8, 8, 1)

    def loss(outputs, y):
        return tf.reduce_mean((outputs - y) ** 2)

    check(
        unet(), data(8, 8, 2), (y,), loss, 4, ahead=ahead, loss="mse",
        fit={"y": y},
    )


def skips():
    a = keras.Input((5,), name="a")
    b = keras.Input((5,), name="b")
    x1 = layers.Dense(5, activation="tanh")(a)
    x2 = layers.BatchNormalization()(layers.Dense(5)(x1))
    x3 = layers.Dense(5, activation="tanh")(x2 + x1)
    x4 = layers.Concatenate()([layers.Dense(5)(x3), b, x1])
    out = layers.Dense(3, name="out")(x4)
    early = layers.Dense(2, name="early")(x2)
    return keras.Model({"a": a, "b": b}, {"out": out, "early": early})


@pytest.mark.parametrize("num_modules", [1, 2, 3, 4, 6])
@pytest.mark.quick_cases("4")
def test_several_inputs_and_outputs(float64, num_modules):
    x = {"a": data(5), "b": data(5, seed=1)}
    y = {"out": data(3), "early": data(2, seed=2)}
    weights = {"out": 1.0, "early": 0.5}

    def loss(outputs, y):
        return sum(
            weights[name] * squares(outputs[name], y[name]) for name in y
        )

    check(
        skips(), x, (y,), loss, num_modules, fit={"y": y},
        loss={"out": "mse", "early": "mse"}, loss_weights=weights,
    )


def test_sample_weights(float64):
    network = keras.Sequential(
        [keras.Input((6,)), *(layers.Dense(5) for _ in range(4))]
    )
    y, weights = data(5), np.abs(data())

    def loss(outputs, y, weights):
        return tf.reduce_mean(
            weights * tf.reduce_mean((outputs - y) ** 2, -1)
        )

    check(
        network, data(6), (y, weights), loss, loss="mse",
        fit={"y": y, "sample_weight": weights},
    )


def test_class_weights(float64):
    network = keras.Sequential(
        [keras.Input((6,)), *(layers.Dense(5) for _ in range(4))]
    )
    y = np.arange(BATCH * BATCHES) % 5
    of_class = np.array([0.5, 1.0, 2.0, 0.25, 4.0])

    def loss(outputs, y):
        losses = -tf.gather(
            tf.nn.log_softmax(outputs), y[:, None], axis=1, batch_dims=1
        )[:, 0]
        return tf.reduce_mean(of_class[y] * losses)

    check(
        network, data(6), (y,), loss,
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        fit={"y": y, "class_weight": dict(enumerate(of_class))},
    )


def test_masked_sequences(float64):
    """Masks cross boundaries, and reach the loss."""
    network = keras.Sequential(
        [
            keras.Input((7,), dtype="int32"),
            layers.Embedding(9, 4, mask_zero=True),
            layers.LSTM(5, return_sequences=True, dropout=0.25, seed=1),
            layers.LSTM(5, return_sequences=True),
            layers.Dense(3),
        ]
    )
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 8, BATCH * BATCHES)
    x = rng.integers(1, 9, (BATCH * BATCHES, 7))
    x[np.arange(7) >= lengths[:, None]] = 0
    y = data(7, 3)

    def loss(outputs, y):
        mask = tf.cast(outputs._keras_mask, tf.float64)
        errors = tf.reduce_mean((outputs - y) ** 2, -1) * mask
        return tf.reduce_sum(errors) / tf.reduce_sum(mask)

    check(network, x, (y,), loss, 4, loss="mse", fit={"y": y})


def test_layer_used_twice(float64):
    twice = layers.Dense(6, activation="tanh")
    inputs = keras.Input((6,))
    x = layers.Dense(6)(inputs)
    x = twice(layers.Dropout(0.25, seed=1)(twice(x)))
    outputs = layers.Dense(3)(layers.Dense(6)(x))
    y = data(3)
    check(
        keras.Model(inputs, outputs), data(6), (y,), squares, 4,
        loss="mse", fit={"y": y},
    )


def test_weights_that_the_loss_does_not_depend_on(float64):
    """What the first module makes is only compared."""
    inputs = keras.Input((6,))
    first = keras.Model(inputs, [inputs, layers.Dense(1)(inputs) > 0])
    x, chosen = keras.Input((6,)), keras.Input((1,), dtype="bool")
    outputs = layers.Dense(3)(keras.ops.where(chosen, x, -x))
    second = keras.Model([x, chosen], outputs)
    y = data(3)
    check(
        [first, second], data(6), (y,), squares, None, loss="mse",
        fit={"y": y},
    )


def test_nested_models(float64):
    block = keras.Sequential(
        [keras.Input((6,)), layers.Dense(6), layers.BatchNormalization()]
    )
    network = keras.Sequential(
        [keras.Input((6,)), layers.Dense(6), block, layers.Dense(3)]
    )
    y = data(3)
    check(network, data(6), (y,), squares, loss="mse", fit={"y": y})
