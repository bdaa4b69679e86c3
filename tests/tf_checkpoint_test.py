"""`tf.train.Checkpoint(model=model, optimizer=model.optimizer)`."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import fr_keras
from tests.small_net import assert_same, compiled, data, fit, values

optimizers = keras.optimizers
OPTIMIZERS = {
    "adam": lambda: optimizers.Adam(0.01),
    "loss_scale": lambda: optimizers.LossScaleOptimizer(
        optimizers.Adam(0.01), initial_scale=4.0, dynamic_growth_steps=2
    ),
    "multi": lambda: optimizers.MultiOptimizer(optimizers.OptimizerMap(
        optimizers.Adam(0.01), {".*bias": optimizers.RMSprop(0.02)}
    )),
    "ema": lambda: optimizers.SGD(0.1, momentum=0.9, use_ema=True),
}


def net():
    return keras.Sequential([
        keras.Input((6,)),
        keras.layers.Dense(5, "tanh"), keras.layers.BatchNormalization(),
        keras.layers.Dense(5, "tanh"), keras.layers.Dense(3),
    ])


def state(model):
    return [v.numpy() for v in model.optimizer.variables]


@pytest.mark.parametrize(
    "optimizer, trained_before",
    [("adam", False), ("adam", True), ("multi", False)] + [
        pytest.param(*case, marks=pytest.mark.slow)
        for case in (
            ("multi", True), ("loss_scale", False), ("loss_scale", True),
            ("ema", False), ("ema", True),
        )
    ],
)
def test_training_goes_on(optimizer, trained_before, tmp_path):
    """Restored into optimizers that have their variables, or not yet."""
    def make():
        return compiled(
            net(), algorithm=fr_keras.Backprop,
            optimizer=OPTIMIZERS[optimizer](),
        )

    model = make()
    fit(model, *data())
    prefix = tf.train.Checkpoint(
        model=model, optimizer=model.optimizer
    ).save(tmp_path / "kept")
    expected = state(model)
    slots = [v for v in expected if v.ndim]
    assert slots and all(np.any(slot) for slot in slots)

    other = make()
    if trained_before:
        fit(other, *data(2, seed=5))
    status = tf.train.Checkpoint(
        model=other, optimizer=other.optimizer
    ).restore(prefix)
    other.make_train_function()
    status.assert_consumed()
    assert_same(state(other), expected)
    for each in (model, other):
        fit(each, *data(seed=1))
    assert_same(values(other), values(model))
    assert_same(state(other), state(model))


@pytest.mark.parametrize("trained_before", [False, True])
def test_queues_are_not_part_of_it(trained_before, tmp_path):
    """Nor is it part of it that they were full."""
    model, other, fresh = (compiled(net(), optimizer="sgd") for _ in range(3))
    fit(model)
    checkpoint = tf.train.Checkpoint(model=model, optimizer=model.optimizer)
    prefix = checkpoint.save(tmp_path / "kept")
    if trained_before:
        fit(other, *data(1))
    tf.train.Checkpoint(model=other, optimizer=other.optimizer).restore(
        prefix
    )
    assert other.training.num_iterations == trained_before
    if not trained_before:
        for variable, value in zip(fresh.variables, model.variables):
            variable.assign(value)
        for each in (other, fresh):
            fit(each)
        assert_same(values(other), values(fresh))
    fit(other)
    assert np.isfinite(np.concatenate([v.ravel() for v in values(other)])).all()
