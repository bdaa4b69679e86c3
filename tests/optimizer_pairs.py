"""The same network twice, in modules and plain, and optimizers for both."""

import keras
import numpy as np

import fr_keras

layers, optimizers = keras.layers, keras.optimizers
BATCH, STEPS = 4, 4
DEVICES = ["CPU:1", "CPU:2"]


def net():
    """Muon knows embeddings by their names."""
    return keras.Sequential(
        [
            keras.Input((4,)),
            layers.Dense(5, activation="tanh", name="embedding"),
            layers.Dense(5, activation="tanh", name="first"),
            layers.Dense(5, activation="tanh", name="second"),
            layers.Dense(3, name="head"),
        ],
        name="net",
    )


def data():
    rng = np.random.default_rng(0)
    return (
        rng.normal(size=(BATCH * STEPS, 4)).astype("float32"),
        rng.normal(size=(BATCH * STEPS, 3)).astype("float32"),
    )


def fit(model, **options):
    x, y = data()
    options = {"batch_size": BATCH, "shuffle": False, "verbose": 0} | options
    return model.fit(x, y, **options)


def pair(num_modules, make=net):
    """The same network twice: in modules on other devices, and plain."""
    network = make()
    return (
        fr_keras.Backprop(
            network, num_modules, DEVICES[:num_modules],
            costs=dict.fromkeys([layer.name for layer in network.layers], 1.0),
        ),
        network,
    )


def assert_alike(ours, theirs, rtol=1e-5):
    """Weights go by their paths."""
    theirs = {v.path: v for v in theirs.trainable_variables}
    assert {v.path for v in ours.trainable_variables} == set(theirs)
    for variable in ours.trainable_variables:
        np.testing.assert_allclose(
            variable, theirs[variable.path], rtol=rtol, atol=rtol / 100,
            err_msg=variable.path,
        )


class Shifted(optimizers.SGD):
    """What it was made with is not part of its configuration."""

    def __init__(self, learning_rate=0.1, shift=0.0, **kwargs):
        super().__init__(learning_rate, **kwargs)
        self.shift = shift

    def update_step(self, gradient, variable, learning_rate):
        super().update_step(gradient + self.shift, variable, learning_rate)


OPTIONS = {
    # `adam_weight_decay` is another argument than `weight_decay`.
    "Muon, layers by name": lambda: optimizers.Muon(
        0.01, weight_decay=0.1, exclude_layers=["second"]
    ),
    "Muon, tables too": lambda: optimizers.Muon(
        0.01, exclude_embeddings=False, adam_weight_decay=0.1
    ),
    "averages": lambda: optimizers.Adam(
        0.01, use_ema=True, ema_momentum=0.5, ema_overwrite_frequency=3
    ),
    "averages at the end": lambda: optimizers.SGD(
        0.1, use_ema=True, ema_momentum=0.5
    ),
    "clipvalue": lambda: optimizers.SGD(0.1, clipvalue=0.01),
    "clipnorm": lambda: optimizers.SGD(0.1, clipnorm=0.01),
    "accumulation": lambda: optimizers.AdamW(
        0.01, weight_decay=0.1, gradient_accumulation_steps=2
    ),
    "schedule": lambda: optimizers.SGD(
        optimizers.schedules.ExponentialDecay(0.1, 2, 0.5), weight_decay=0.1
    ),
    "loss scale": lambda: optimizers.LossScaleOptimizer(
        optimizers.AdamW(0.01, weight_decay=0.1), initial_scale=4.0,
        dynamic_growth_steps=2,
    ),
    "loss_scale_factor": lambda: optimizers.Adam(0.01, loss_scale_factor=8.0),
    "several": lambda: optimizers.MultiOptimizer(
        optimizers.OptimizerMap(
            optimizers.SGD(0.1),
            {
                "net/second/.*": optimizers.Adam(0.01, use_ema=True),
                "net/head/kernel": optimizers.RMSprop(0.02),
            },
        )
    ),
    "several with a loss scale": lambda: optimizers.LossScaleOptimizer(
        optimizers.MultiOptimizer(
            optimizers.OptimizerMap(
                optimizers.SGD(0.1), {"net/first/.*": optimizers.Adam(0.01)}
            )
        ),
        initial_scale=4.0,
    ),
    "subclass": lambda: Shifted(shift=0.1),
}
