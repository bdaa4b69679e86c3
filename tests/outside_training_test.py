"""A model of modules that is called, or trained, by something else."""

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

import fr_keras

layers = keras.layers


def net():
    return keras.Sequential(
        [keras.Input((4,)), layers.Dense(5, activation="tanh"),
         layers.Dropout(0.5, seed=1), layers.Dense(3)]
    )


def data():
    rng = np.random.default_rng(0)
    return (
        rng.normal(size=(8, 4)).astype("float32"),
        rng.normal(size=(8, 3)).astype("float32"),
    )


class Distillation(keras.Model):
    """The example of keras.io, shortened."""

    def __init__(self, student):
        super().__init__()
        self.student = student

    def call(self, x, training=None):
        return self.student(x, training=training)

    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(self.student(x, training=True) - y))
        weights = self.student.trainable_weights
        self.optimizer.apply(tape.gradient(loss, weights), weights)
        return {"loss": loss}


def composed(student):
    inputs = keras.Input((4,))
    return keras.Model(inputs, layers.Dense(3)(student(inputs)))


def by_hand(student):
    class Trained:
        def compile(self, *args, **options):
            del args, options

        def fit(self, x, y, **options):
            del options
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean((student(x, training=True) - y) ** 2)
            tape.gradient(loss, student.trainable_weights)

    return Trained()


@pytest.mark.parametrize("around", [Distillation, composed, by_hand])
def test_training_from_outside_is_announced_once(around):
    student = fr_keras.FeaturesReplay(net(), 2)
    model = around(student)
    with pytest.warns(UserWarning) as records:
        for _ in range(2):
            model.compile("sgd", "mse", run_eagerly=True)
            model.fit(*data(), batch_size=4, verbose=0)
    messages = [str(r.message) for r in records if "outside" in str(r.message)]
    (message,) = messages
    assert "use FeaturesReplay" in message and "`to_keras()`" in message


@pytest.mark.parametrize(
    "algorithm, num_modules",
    [(fr_keras.Backprop, 2), (fr_keras.GPipe, 2), (fr_keras.FeaturesReplay, 1)],
)
def test_methods_with_true_gradients_need_not_be_announced(
    algorithm, num_modules
):
    with warnings.catch_warnings():
        warnings.filterwarnings("error", ".*outside")
        by_hand(algorithm(net(), num_modules)).fit(*data())


def test_what_trains_nothing_is_not_announced():
    """Its own training, evaluation, Monte-Carlo dropout, saliency maps."""
    x, y = data()
    model = fr_keras.FeaturesReplay(net(), 2)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", ".*outside")
        for run_eagerly in (True, False):
            model.compile("sgd", "mse", run_eagerly=run_eagerly)
            model.fit(x, y, batch_size=4, validation_data=(x, y), verbose=0)
            model.evaluate(x, y, verbose=0)
            model.predict(x, verbose=0)
        model(x, training=True)
        x = tf.constant(x)
        with tf.GradientTape() as tape:
            tape.watch(x)
            outputs = model(x, training=False)
        assert tape.gradient(outputs, x) is not None


def test_gradients_from_outside_are_those_of_the_plain_model():
    x, y = data()
    model = fr_keras.FeaturesReplay(net(), 2)
    gradients = []
    for each in (model, model.to_keras()):
        for layer in each._flatten_layers():
            if isinstance(layer, layers.Dropout):
                layer.rate = 0.0
        with warnings.catch_warnings(), tf.GradientTape() as tape:
            warnings.simplefilter("ignore")
            loss = tf.reduce_mean((each(x, training=True) - y) ** 2)
            gradients.append(tape.gradient(loss, each.trainable_weights))
    for ours, theirs in zip(*gradients):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)


def test_masks_go_on():
    sequences = keras.Sequential([
        keras.Input((5,), dtype="int32"),
        layers.Embedding(7, 4, mask_zero=True), layers.Dense(3),
    ])
    model = fr_keras.FeaturesReplay(sequences, 2)
    tokens = tf.constant([[1, 2, 0, 0, 0]])
    outputs = model(tokens, training=True)
    np.testing.assert_array_equal(outputs._keras_mask, tokens != 0)
