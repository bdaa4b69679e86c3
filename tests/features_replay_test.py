"""The algorithm against the plain reference of `reference.py`."""

import keras
import numpy as np
import pytest

import fr_keras
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
            layers.Conv2D(4, 3, padding="same"),
            fr_keras.layers.FusedBatchNormalization(),
            layers.ReLU(),
        ]
    return keras.Sequential(
        net + [layers.GlobalAveragePooling2D(), layers.Dense(4)]
    )


def exponential(initial, rate):
    return keras.optimizers.schedules.ExponentialDecay(initial, 10, rate)


# name: (Keras optimizer, rule of the reference, learning rate at t)
OPTIMIZERS = {
    "sgd": (
        lambda: keras.optimizers.SGD(0.1),
        lambda: reference.SGD(),
        lambda t: 0.1,
    ),
    "nesterov": (
        lambda: keras.optimizers.SGD(
            0.05, momentum=0.9, nesterov=True, weight_decay=2**-7
        ),  # Keras rounds the weight decay to float32.
        lambda: reference.SGD(momentum=0.9, weight_decay=2**-7),
        lambda t: 0.05,
    ),
    "adam": (
        lambda: keras.optimizers.Adam(0.01),
        lambda: reference.Adam(),
        lambda t: 0.01,
    ),
    "schedule": (
        lambda: keras.optimizers.Adam(exponential(0.02, 0.5)),
        lambda: reference.Adam(),
        lambda t: 0.02 * 0.5 ** (t / 10),
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
    return [np.array(v) for m in modules for v in m.variables]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("net", [dense_net, convolutional_net])
@pytest.mark.parametrize("num_modules", [1, 2, 3, 4, 5])
def test_agrees_with_reference(float64, num_modules, net, optimizer):
    keras_optimizer, rule, learning_rate = OPTIMIZERS[optimizer]
    net = net()
    x, y = data(net)
    batches = [
        (x[i : i + BATCH], y[i : i + BATCH]) for i in range(0, EXAMPLES, BATCH)
    ]

    for steps_per_execution in (1, 5):
        model = fr_keras.FeaturesReplay(net, num_modules)
        plain = [reference.PlainModule(m.layers) for m in model.modules]
        losses = reference.features_replay(
            plain, rule, learning_rate, batches * EPOCHS
        )
        history = train(model, x, y, keras_optimizer(), steps_per_execution)

        for module, expected in zip(model.modules, plain):
            trained = [v.numpy() for v in module.trainable_variables]
            np.testing.assert_allclose(
                np.concatenate([w.ravel() for w in trained]),
                np.concatenate(
                    [w.numpy().ravel() for w in sum(expected.weights, [])]
                ),
                rtol=1e-10, atol=1e-12,
            )
            for v, w in zip(
                module.non_trainable_variables, sum(expected.statistics, [])
            ):
                np.testing.assert_allclose(v, w, rtol=1e-10)
        # The reported loss of an epoch is the mean over its examples.
        sizes = [len(batch[1]) for batch in batches]
        expected_loss = [
            np.average(losses[i : i + len(sizes)], weights=sizes)
            for i in range(0, len(losses), len(sizes))
        ]
        np.testing.assert_allclose(
            history.history["loss"], expected_loss, rtol=1e-10
        )


@pytest.mark.parametrize("algorithm", [fr_keras.FeaturesReplay, fr_keras.Backprop])
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
