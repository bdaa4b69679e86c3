"""Arguments and models that `Checkpoints` refuses."""

import pytest
import tensorflow as tf

import fr_keras
from tests.killed_trainings import X, Y, build, network


@pytest.mark.parametrize(
    "argument",
    [
        {"every_steps": 0}, {"every_epochs": 0}, {"every_minutes": 0},
        {"every_minutes": float("nan")}, {"keep": 1}, {"mode": "most"},
    ],
)
def test_nonsense_is_refused(argument):
    (name,) = argument
    with pytest.raises(ValueError, match=rf"`{name}` must.*Received: {name}="):
        fr_keras.Checkpoints("nowhere", **argument)


def test_models_that_cannot_be_kept(tmp_path):
    model = build()
    model.compile("sgd", "mse", run_eagerly=True)
    with pytest.raises(ValueError, match="Received: run_eagerly=True"):
        model.fit(X, Y, callbacks=[fr_keras.Checkpoints(tmp_path)])


def test_algorithm_that_does_not_name_its_state(tmp_path):
    class Forgetful(fr_keras.Backprop.pipeline_class):
        def make_state(self):
            self.counter = tf.Variable(0)

    class Forgets(fr_keras.Backprop):
        pipeline_class = Forgetful

    model = Forgets(network(), 2)
    model.compile("sgd", "mse")
    with pytest.raises(
        ValueError, match="also implement `state_variables`.*: Forgetful"
    ):
        model.fit(X, Y, callbacks=[fr_keras.Checkpoints(tmp_path)], verbose=0)


@pytest.mark.parametrize(
    "callback", [fr_keras.Checkpoints("nowhere"), fr_keras.OnNaN()]
)
def test_models_of_others(callback):
    model = network()
    model.compile("sgd", "mse")
    with pytest.raises(
        ValueError, match="requires a model of fr_keras.*type Sequential"
    ):
        model.fit(X, Y, callbacks=[callback], verbose=0)
