"""Training by an algorithm against its plain reference, in float64."""

import functools

import keras
import numpy as np

import fr_keras
from tests import reference

# The algorithm as it is written in the paper.
paper = functools.partial(fr_keras.FeaturesReplay, weight_prediction=False)

BATCH, EXAMPLES, EPOCHS = 8, 53, 4  # 7 batches, the last of 5; 28 iterations.


def dense_net():
    layers = keras.layers
    return keras.Sequential(
        [keras.Input((6,))]
        + [layers.Dense(9, activation="tanh") for _ in range(6)]
        + [layers.Dense(4)]
    )


def convolutional_net():
    layers = keras.layers
    net = [keras.Input((5, 5, 2))]
    for _ in range(5):
        net += [
            layers.Conv2D(4, 3, padding="same", use_bias=False),
            fr_keras.layers.FusedBatchNormalization(),
            layers.ReLU(),
        ]
    return keras.Sequential(
        net + [layers.GlobalAveragePooling2D(), layers.Dense(4)]
    )


# Keras rounds constants to float32 on their way into a float64 graph, so these
# are all exact in float32. name: (Keras optimizer, rule of the reference,
# learning rate at t)
OPTIMIZERS = {
    "sgd": (
        lambda: keras.optimizers.SGD(0.1),
        lambda: reference.SGD(),
        lambda t: 0.1,
    ),
    "nesterov": (
        lambda: keras.optimizers.SGD(
            0.05, momentum=0.875, nesterov=True, weight_decay=2**-7
        ),
        lambda: reference.SGD(momentum=0.875, weight_decay=2**-7),
        lambda t: 0.05,
    ),
    "adam": (
        lambda: keras.optimizers.Adam(0.01, 0.875, 1 - 2**-7, 2**-20),
        lambda: reference.Adam(0.875, 1 - 2**-7, 2**-20),
        lambda t: 0.01,
    ),
    "schedule": (
        lambda: keras.optimizers.Adam(
            keras.optimizers.schedules.PiecewiseConstantDecay(
                [2, 12], [2**-5, 2**-6, 2**-8]
            ),
            0.875, 1 - 2**-7, 2**-20,
        ),
        lambda: reference.Adam(0.875, 1 - 2**-7, 2**-20),
        # (Of float32, as Keras' schedules return them.)
        lambda t: np.float32(2**-5 if t <= 2 else 2**-6 if t <= 12 else 2**-8),
    ),
    # Rises and falls within one call.
    "rising": (
        lambda: keras.optimizers.SGD(
            keras.optimizers.schedules.PiecewiseConstantDecay(
                [1, 3], [2**-8, 2**-5, 2**-6]
            ),
        ),
        lambda: reference.SGD(0.0),
        lambda t: np.float32(2**-8 if t <= 1 else 2**-5 if t <= 3 else 2**-6),
    ),
}


def data(net):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(EXAMPLES, *net.input_shape[1:]))
    return x, rng.integers(0, 4, EXAMPLES)


def loss():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def train(model, x, y, optimizer, steps_per_execution=1, epochs=EPOCHS):
    model.compile(
        optimizer, loss(), steps_per_execution=steps_per_execution,
    )
    return model.fit(
        x, y, batch_size=BATCH, epochs=epochs, shuffle=False, verbose=0
    )


def values(modules):
    return [v.numpy() for m in modules for v in m.variables]


def check(
    algorithm, plain_algorithm, num_modules, net, optimizer, steps,
    examples=EXAMPLES, **options,
):
    """Trains by the library and by a reference, and compares all state.

    Args:
        algorithm: class of the library, or callable like it.
        plain_algorithm: function `(modules, optimizer, learning_rate,
            batches) -> losses`, which trains `PlainModule`s.
        num_modules: int.
        net: function without arguments, makes the network.
        optimizer: str, a name in `OPTIMIZERS`.
        steps: int, iterations in one call.
        examples: int, in an epoch.
        **options: of the algorithm.

    Returns:
        The trained model.
    """
    keras_optimizer, rule, learning_rate = OPTIMIZERS[optimizer]
    net = net()
    x, y = (array[:examples] for array in data(net))
    batches = [
        (x[i : i + BATCH], y[i : i + BATCH]) for i in range(0, examples, BATCH)
    ]
    model = algorithm(net, num_modules, **options)
    expected = [reference.PlainModule(m.layers) for m in model.modules]

    expected_losses = plain_algorithm(
        expected, rule, learning_rate, batches * EPOCHS
    )
    history = train(model, x, y, keras_optimizer(), steps)

    for module, plain in zip(model.modules, expected):
        assert_close(module.trainable_variables, sum(plain.weights, []))
        assert_close(module.non_trainable_variables, sum(plain.statistics, []))
    # The reported loss of an epoch is the mean over its examples.
    np.testing.assert_allclose(
        history.history["loss"],
        np.average(
            np.reshape(expected_losses, [EPOCHS, len(batches)]),
            axis=1,
            weights=[len(labels) for _, labels in batches],
        ),
        rtol=1e-10,
    )
    return model


def assert_close(variables, expected):
    assert len(variables) == len(expected)
    for variable, value in zip(variables, expected):
        error = np.max(np.abs(variable.numpy() - np.array(value)))
        assert error <= 1e-10 * np.max(np.abs(value)), variable.path
