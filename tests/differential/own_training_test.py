"""Models with losses or training steps of their own."""

import keras
import pytest

from tests.differential.harness import Case, check

layers = keras.layers
ops = keras.ops


class OwnTrainStep(keras.Model):
    def train_step(self, data):
        x, y = data
        return super().train_step((0.5 * x, y))


class OwnLoss(keras.Model):
    def compute_loss(
        self, x=None, y=None, y_pred=None, sample_weight=None, training=True
    ):
        return 2.0 * super().compute_loss(x, y, y_pred, sample_weight, training)


class OwnTestStep(keras.Model):
    def test_step(self, data):
        x, y = data
        return super().test_step((0.5 * x, y))


class OwnPredictStep(keras.Model):
    def predict_step(self, data):
        return 2.0 * super().predict_step(data)


class OwnMetrics(keras.Model):
    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        logs = super().compute_metrics(x, y, y_pred, sample_weight)
        return {**logs, "half": ops.mean(y_pred)}


class OwnCall(keras.Model):
    def call(self, inputs, training=None, mask=None):
        return 2.0 * super().call(inputs, training=training, mask=mask)


@pytest.mark.slow
@pytest.mark.parametrize("model_class, method", [
    (OwnTrainStep, "train_step"),
    (OwnLoss, "compute_loss"),
    (OwnTestStep, "test_step"),
    (OwnPredictStep, "predict_step"),
    (OwnMetrics, "compute_metrics"),
    (OwnCall, "call"),
])
def test_overridden_method_is_refused(model_class, method):
    def make():
        inputs = keras.Input((6,))
        x = inputs
        for _ in range(4):
            x = layers.Dense(5, activation="tanh")(x)
        return model_class(inputs, layers.Dense(3)(x))

    check(Case(make, refusal=method))


# Autoencoders and others without a loss of `compile`.


class Reconstruction(layers.Layer):
    def call(self, x, decoded):
        self.add_loss(ops.mean(ops.square(x - decoded)))
        return decoded


def autoencoder():
    inputs = keras.Input((6,))
    x = layers.Dense(5, activation="tanh")(inputs)
    x = layers.Dense(3, activation="tanh", activity_regularizer="l1")(x)
    x = layers.Dense(5, activation="tanh")(x)
    return keras.Model(inputs, Reconstruction()(inputs, layers.Dense(6)(x)))


def test_only_losses_of_layers():
    def run(model, arguments):
        history = model.fit(
            arguments["x"], batch_size=4, epochs=2, shuffle=False, verbose=0
        )
        evaluated = model.evaluate(
            arguments["x"], batch_size=4, verbose=0, return_dict=True
        )
        return history.history, evaluated

    check(Case(
        autoencoder, run=run,
        compile=lambda: {"optimizer": keras.optimizers.SGD(0.05)},
    ))
