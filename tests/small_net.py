"""A small network, and short ways to train it and to look at it."""

import keras
import numpy as np

import fr_keras

layers = keras.layers
BATCH, STEPS, K = 4, 6, 3

# Two examples in each micro-batch; Adam would make much of rounding errors.
ARGUMENTS = {
    fr_keras.GPipe: {"num_microbatches": BATCH // 2},
    fr_keras.DNI: {"synthesizer_optimizer": "sgd"},
}


def net(**first):
    return keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(5, activation="tanh", **first),
            layers.BatchNormalization(),
            layers.Dense(5, activation="tanh"),
            layers.Dropout(0.25, seed=1),
            layers.Dense(3),
        ]
    )


def data(num_batches=STEPS, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(BATCH * num_batches, 6)).astype("float32")
    return x, rng.normal(size=(BATCH * num_batches, 3)).astype("float32")


def compiled(network=None, num_modules=K, algorithm=None, **options):
    algorithm = algorithm or fr_keras.FeaturesReplay
    arguments = dict(ARGUMENTS.get(algorithm, {}))
    if "weight_prediction" in options:
        arguments["weight_prediction"] = options.pop("weight_prediction")
    model = algorithm(network or net(), num_modules, **arguments)
    optimizer = options.pop("optimizer", None)
    if optimizer is None:
        optimizer = keras.optimizers.SGD(0.1, momentum=0.9)
    model.compile(optimizer, "mse", **options)
    return model


def fit(model, *args, **options):
    args = args or data()
    return model.fit(
        *args, **{"batch_size": BATCH, "shuffle": False, "verbose": 0}
        | options
    )


def values(model):
    """Weights; Keras does not save the state of random layers with them."""
    return [variable.numpy() for variable in model.weights]


def assert_same(actual, expected, rtol=0.0):
    assert len(actual) == len(expected)
    for a, b in zip(actual, expected):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol / 10)


def differ(actual, expected):
    return [bool((a != b).any()) for a, b in zip(actual, expected)]
