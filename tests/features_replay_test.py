"""The algorithm against the plain reference of `reference.py`."""

import itertools

import keras
import numpy as np
import pytest

import fr_keras
from fr_keras.algorithms.features_replay import replay
from fr_keras.module import Features, Module
from tests import reference

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
        lambda t: 2**-5 if t <= 2 else 2**-6 if t <= 12 else 2**-8,
    ),
}


def data(net):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(EXAMPLES, *net.input_shape[1:]))
    return x, rng.integers(0, 4, EXAMPLES)


def train(model, x, y, optimizer, steps_per_execution=1, epochs=EPOCHS):
    model.compile(
        optimizer,
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        steps_per_execution=steps_per_execution,
    )
    return model.fit(
        x, y, batch_size=BATCH, epochs=epochs, shuffle=False, verbose=0
    )


def values(modules):
    return [v.numpy() for m in modules for v in m.variables]


def cases():
    """All, of which by default one optimizer at every K, and all at K = 3."""
    for num_modules, net, name, steps in itertools.product(
        [1, 2, 3, 4, 5], [dense_net, convolutional_net], OPTIMIZERS, [1, 5]
    ):
        fast = (
            (name == "nesterov" and steps == 5)
            or (num_modules, steps) == (3, {"adam": 1}.get(name, 5))
            or (num_modules, name, steps) == (5, "nesterov", 1)
        )
        yield pytest.param(
            num_modules, net, name, steps, marks=[pytest.mark.slow] * (not fast)
        )


@pytest.mark.parametrize(
    "num_modules, net, optimizer, steps", list(cases())
)
def test_agrees_with_reference(float64, num_modules, net, optimizer, steps):
    keras_optimizer, rule, learning_rate = OPTIMIZERS[optimizer]
    net = net()
    x, y = data(net)
    batches = [
        (x[i : i + BATCH], y[i : i + BATCH]) for i in range(0, EXAMPLES, BATCH)
    ]
    model = fr_keras.FeaturesReplay(net, num_modules)
    expected = [reference.PlainModule(m.layers) for m in model.modules]

    expected_losses = reference.features_replay(
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


def assert_close(variables, expected):
    assert len(variables) == len(expected)
    for variable, value in zip(variables, expected):
        error = np.max(np.abs(variable.numpy() - np.array(value)))
        assert error <= 1e-10 * np.max(np.abs(value)), variable.path


@pytest.mark.parametrize(
    "algorithm", [fr_keras.FeaturesReplay, fr_keras.Backprop]
)
@pytest.mark.parametrize("net", [dense_net, convolutional_net])
def test_one_module_is_stock_keras_bit_for_bit(algorithm, net):
    net = net()
    x, y = data(net)
    model = algorithm(net, num_modules=1)

    def optimizer():
        return keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True)

    history = train(model, x, y, optimizer())
    stock = train(net, x, y, optimizer())

    for ours, theirs in zip(values([model.modules[0]]), values([net])):
        np.testing.assert_array_equal(ours, theirs)
    assert history.history == stock.history


@pytest.mark.parametrize("optimizer", ["nesterov", "adam"])
def test_module_rests_until_its_delta_arrives(optimizer):
    net = dense_net()
    x, y = data(net)
    model = fr_keras.FeaturesReplay(net, num_modules=4)
    model.compile(
        OPTIMIZERS[optimizer][0](),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    first = [values([m]) for m in model.modules]
    for t in range(6):
        model.train_on_batch(x[:BATCH], y[:BATCH])
        for k, module in enumerate(model.modules, start=1):
            moved = any(
                (a != b).any() for a, b in zip(values([module]), first[k - 1])
            )
            assert moved == (t >= 4 - k)
            updates = model.optimizer.per_module[k - 1].iterations
            assert int(updates) == max(0, t + 1 - (4 - k))
    assert int(model.optimizer.iterations) == 6


@pytest.mark.parametrize("repetition", range(4))
def test_update_does_not_overtake_error_gradient(repetition):
    """e_k must be computed with the weights from before the update.

    A module that ends with a layer whose weight gradient does not depend on
    the weight (dense, batch normalization) showed in two out of four traces
    that TensorFlow may let the update go first.
    """
    layers = keras.layers
    submodel = keras.Sequential(
        [
            keras.Input((5, 5, 4)),
            layers.Conv2D(4, 3, padding="same", use_bias=False),
            layers.BatchNormalization(),
        ]
    )
    model = fr_keras.FeaturesReplay(
        [submodel, keras.Sequential([layers.Flatten(), layers.Dense(2)])]
    )
    rng = np.random.default_rng(repetition)
    x = rng.normal(size=(8, 5, 5, 4)).astype("float32")
    y = rng.integers(0, 2, 8)
    model.compile(
        keras.optimizers.SGD(0.5),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    model.train_on_batch(x, y)
    delta = model._deltas[0].load(1)[0]
    eager = keras.models.clone_model(submodel)
    eager.set_weights(submodel.get_weights())
    module = Module(eager, model.devices[0])
    stored = Features([keras.ops.convert_to_tensor(x)], [None])
    module.build(stored.tensors[0], [False], is_last=False)
    gradients, _ = replay(module, stored, [], module.received(delta))

    model.train_on_batch(x, y)

    for variable, before, gradient in zip(
        submodel.trainable_variables, eager.trainable_variables, gradients
    ):
        np.testing.assert_allclose(
            variable, before - 0.5 * gradient, rtol=1e-4, atol=1e-5
        )
