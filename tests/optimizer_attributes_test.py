"""What is set on an optimizer after `compile`, and what is seen of it."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.optimizer_pairs import OPTIONS, STEPS, assert_alike, data, fit, pair

optimizers = keras.optimizers
SET_LATER = {
    "weight_decay": 0.5, "momentum": 0.9, "nesterov": True, "clipvalue": 0.01,
    "learning_rate": 0.5,
}


def set_later(optimizer, names):
    for name in names:
        setattr(optimizer, name, SET_LATER[name])
        assert float(getattr(optimizer, name)) == SET_LATER[name]


@pytest.mark.parametrize("name", list(SET_LATER))
def test_hyperparameters_set_after_compile(name):
    """And after `fit`, which shows at once where nothing is traced."""
    models = pair(2)
    for model in models:
        model.compile(optimizers.SGD(0.1, momentum=0.5), "mse",
                      run_eagerly=True)
        set_later(model.optimizer, [name])
        fit(model)
        set_later(model.optimizer, SET_LATER)
        fit(model)
    assert_alike(*models)


@pytest.mark.parametrize("of_user", [True, False])
def test_hyperparameters_set_before_graphs_are_traced(of_user):
    models = pair(2)
    for model in models:
        optimizer = optimizers.SGD(0.1, momentum=0.5)
        model.compile(optimizer, "mse", jit_compile=False)
        fit(model)
        model.compile(optimizer, "mse", jit_compile=False)
        set_later(optimizer if of_user else model.optimizer, SET_LATER)
        fit(model)
    assert_alike(*models)


def test_exclusions_set_after_compile():
    models = pair(2)
    for model in models:
        model.compile(
            optimizers.AdamW(0.01, weight_decay=0.5), "mse", run_eagerly=True
        )
        model.optimizer.exclude_from_weight_decay(var_names=["second"])
        fit(model)
    assert_alike(*models)


def test_unknown_hyperparameters_are_refused():
    model, _ = pair(2)
    model.compile(optimizers.SGD(), "mse")
    with pytest.raises(AttributeError, match="`beta_1`.*Received: beta_1=0.5"):
        model.optimizer.beta_1 = 0.5
    model.compile(optimizers.LossScaleOptimizer(optimizers.SGD()), "mse")
    with pytest.raises(AttributeError, match="inner_optimizer.weight_decay"):
        model.optimizer.weight_decay = 0.5
    model.optimizer.inner_optimizer.weight_decay = 0.5
    fit(model)
    for optimizer in model.optimizer.per_module:
        assert optimizer.inner_optimizer.weight_decay == 0.5


def test_model_optimizer_is_like_the_one_given():
    model, _ = pair(2)
    optimizer = optimizers.Adam(0.25, beta_1=0.5, weight_decay=0.125)
    model.compile(optimizer, "mse", run_eagerly=True)
    fit(model)
    ours = model.optimizer
    assert isinstance(ours, optimizers.Adam)
    assert not isinstance(ours, optimizers.SGD)
    assert (ours.beta_1, ours.weight_decay) == (0.5, 0.125)
    assert optimizers.serialize(ours) == optimizers.serialize(optimizer)
    assert int(optimizer.iterations) == int(ours.iterations) == STEPS
    assert float(ours.learning_rate) == 0.25


@pytest.mark.parametrize(
    "name", ["several", "several with a loss scale", "loss scale"]
)
def test_iterations_are_those_of_keras(name):
    models = pair(2)
    iterations = []
    for model in models:
        model.compile(OPTIONS[name](), "mse", run_eagerly=True)
        fit(model)
        iterations.append(int(model.optimizer.iterations))
    assert iterations == [STEPS, STEPS]


def test_state_tree():
    model, _ = pair(2)
    model.compile(optimizers.Adam(name="own"), "mse", run_eagerly=True)
    fit(model)
    tree = model.get_state_tree("numpy_array")["optimizer_variables"]
    assert set(tree) == {"own", "own_module_1", "own_module_2"}
    assert tree["own"]["iteration"] == STEPS
    tree["own_module_2"]["iteration"] += 1
    model.set_state_tree({"optimizer_variables": tree})
    assert int(model.optimizer.per_module[1].iterations) == STEPS + 1


def test_weights_of_the_optimizer():
    model, _ = pair(2)
    model.compile(optimizers.Adam(), "mse", run_eagerly=True)
    with pytest.raises(ValueError, match="Received: 2 weights"):
        model.optimizer.set_weights([0, 0])
    fit(model)
    weights = [np.array(v) + 1 for v in model.optimizer.variables]
    model.optimizer.set_weights(weights)
    for variable, value in zip(model.optimizer.variables, weights):
        np.testing.assert_array_equal(variable, value)


def test_averages_can_be_swapped_with_any_optimizer():
    """Evaluated are averages; the weights come back."""
    for name in ("averages", "several"):
        models = pair(2)
        losses = []
        for model in models:
            model.compile(OPTIONS[name](), "mse", run_eagerly=True)
            model.optimizer.build(model.trainable_variables)
            history = fit(
                model, validation_data=data(),
                callbacks=[keras.callbacks.SwapEMAWeights()],
            )
            losses.append(history.history["val_loss"])
        np.testing.assert_allclose(*losses, rtol=1e-5)
        assert_alike(*models)


def test_optimizer_that_cannot_be_copied():
    class Unknown(optimizers.SGD):
        def __init__(self, momentum_of_ours):
            super().__init__(0.1, momentum_of_ours)

    model, _ = pair(2)
    model.compile(Unknown(0.5), "mse")
    with pytest.raises(ValueError, match="`get_config`.*Received: optimizer="):
        fit(model)


def test_checkpoint_of_the_optimizer(tmp_path):
    """It has what every module's optimizer needs to go on."""
    model, _ = pair(2)
    model.compile(optimizers.Adam(0.01), "mse", run_eagerly=True)
    fit(model)
    written = tf.train.Checkpoint(optimizer=model.optimizer).write(
        str(tmp_path / "checkpoint")
    )
    before = [np.array(v) for v in model.optimizer.variables]
    model.compile(optimizers.Adam(0.01), "mse", run_eagerly=True)
    fit(model, epochs=2)
    tf.train.Checkpoint(optimizer=model.optimizer).read(
        written
    ).assert_consumed()
    for variable, value in zip(model.optimizer.variables, before):
        np.testing.assert_array_equal(variable, value)
