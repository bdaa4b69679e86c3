"""Small models with replicas, and what must hold of their copies."""

import keras
import numpy as np

import fr_keras

BATCH = 6
MICROBATCHED = ["GPipe", "Pipeline"]
# The last of the five batches of an epoch has a single example.
EXAMPLES = 4 * BATCH + 1


def data(examples=EXAMPLES):
    rng = np.random.default_rng(0)
    return rng.normal(size=(examples, 7)), rng.integers(0, 3, examples)


def net(normalized=False, dropout=0.0):
    keras.utils.set_random_seed(1)
    x = inputs = keras.Input((7,))
    for _ in range(4):
        x = keras.layers.Dense(
            6, activation="tanh", kernel_regularizer=keras.regularizers.L2(0.01)
        )(x)
        if normalized:
            x = keras.layers.BatchNormalization(momentum=0.8)(x)
        if dropout:
            x = keras.layers.Dropout(dropout)(x)
    return keras.Model(inputs, keras.layers.Dense(3)(x))


def loss():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def sgd():
    schedule = keras.optimizers.schedules.ExponentialDecay(0.1, 3, 0.9)
    return keras.optimizers.SGD(schedule, momentum=0.9)


def made(method, num_modules, replicas, network=None, optimizer=None, **more):
    """A compiled model whose modules all have a device of their own."""
    if method in MICROBATCHED:
        more["num_microbatches"] = 2
    model = getattr(fr_keras, method)(
        net() if network is None else network, num_modules, replicas=replicas,
        devices=[f"CPU:{i % 8}" for i in range(num_modules * replicas)], **more,
    )
    model.compile(
        optimizer or sgd(), loss(), metrics=["accuracy"], steps_per_execution=3
    )
    return model


def fit(model, x, y, epochs=3, **more):
    return model.fit(
        x, y, BATCH, epochs, verbose=0, shuffle=False, **more
    ).history


def assert_copies_are_equal(model):
    for pipeline in model.pipelines[1:]:
        for copy in pipeline.learners:
            pairs = copy.equal_variables()
            assert pairs
            for original, other in pairs:
                np.testing.assert_array_equal(original, other)


def assert_alike(model, other, rtol=1e-9):
    for a, b in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol, rtol)
