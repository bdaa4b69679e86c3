"""The algorithm against the plain reference of `reference.py`."""

import functools
import itertools
import warnings

import keras
import numpy as np
import pytest

import fr_keras
from fr_keras.engine.features import Features
from fr_keras.engine.module import Module
from fr_keras.engine.playing import replay
from tests import agreement, reference
from tests.agreement import (
    BATCH,
    OPTIMIZERS,
    convolutional_net,
    data,
    dense_net,
    train,
    values,
)


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
@pytest.mark.quick_cases(
    "1-dense_net-nesterov-5", "3-convolutional_net-adam-1",
    "4-convolutional_net-nesterov-5", "3-dense_net-rising-5",
)
def test_agrees_with_reference(float64, num_modules, net, optimizer, steps):
    agreement.check(
        agreement.paper, reference.features_replay, num_modules, net,
        optimizer, steps,
    )


@pytest.mark.parametrize("num_modules, num_batches", [(4, 6), (4, 2), (1, 3)])
@pytest.mark.parametrize("algorithm", [agreement.paper, fr_keras.DDG])
@pytest.mark.quick_cases("algorithm0-4-6", "DDG-4-2")
def test_drain(float64, algorithm, num_modules, num_batches):
    """All modules have learned from all batches; then it begins anew."""
    net = dense_net()
    x, y = (a[:num_batches * BATCH] for a in data(net))
    batches = [*zip(*(np.split(a, num_batches) for a in (x, y)))]
    model = algorithm(net, num_modules)
    plain = [reference.PlainModule(m.layers) for m in model.modules]
    optimizer, rule, rate = agreement.OPTIMIZERS["nesterov"]
    rules = [rule() for _ in plain]
    train = reference.features_replay
    if algorithm is fr_keras.DDG:
        delays = [num_modules - k for k in range(1, num_modules + 1)]
        train = functools.partial(reference.delayed_backprop, delays=delays)
    for _ in range(2):
        train(
            plain, functools.partial(next, iter(rules)), rate, batches,
            drained=True,
        )
    model.compile(optimizer(), agreement.loss())
    for _ in range(2):
        model.fit(x, y, batch_size=BATCH, shuffle=False, verbose=0)
        model.drain()
    for module, expected in zip(model.modules, plain):
        agreement.assert_close(
            module.trainable_variables, sum(expected.weights, [])
        )


@pytest.mark.parametrize("num_modules", [1, 2, 4])
@pytest.mark.quick_cases("4")
def test_gradient_shrink(float64, num_modules):
    def shrunk(*args):
        return reference.features_replay(*args, gradient_shrink=0.75)

    agreement.check(
        agreement.paper, shrunk, num_modules, convolutional_net,
        "nesterov", steps=5, gradient_shrink=0.75,
    )


@pytest.mark.parametrize("shrink", [0, -0.5, 1.5, float("nan")])
def test_bad_gradient_shrink(shrink):
    with pytest.raises(ValueError, match=f"Received: .*={shrink}"):
        fr_keras.FeaturesReplay(dense_net(), 2, gradient_shrink=shrink)


# GPipe splits batches, which changes the order of sums.
@pytest.mark.parametrize(
    "algorithm", [fr_keras.Backprop, fr_keras.DDG, fr_keras.DNI,
                  fr_keras.FeaturesReplay]
)
@pytest.mark.parametrize("net", [dense_net, convolutional_net])
@pytest.mark.quick_cases("dense_net-DDG", "convolutional_net-FeaturesReplay")
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
        [submodel, keras.Sequential([layers.Flatten(), layers.Dense(2)])],
        weight_prediction=False,
    )
    rng = np.random.default_rng(repetition)
    x = rng.normal(size=(8, 5, 5, 4)).astype("float32")
    y = rng.integers(0, 2, 8)
    model.compile(
        keras.optimizers.SGD(0.5),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    model.train_on_batch(x, y)
    delta = model.pipeline._deltas[0].load(1)[0]
    eager = keras.models.clone_model(submodel)
    eager.set_weights(submodel.get_weights())
    module = Module(eager, model.devices[0])
    stored = Features([keras.ops.convert_to_tensor(x)], [None])
    module.build(stored.tensors[0], [False], is_last=False)
    gradients, _ = replay(
        module, (stored, [], None), module.received(delta)
    )

    model.train_on_batch(x, y)

    for variable, before, gradient in zip(
        submodel.trainable_variables, eager.trainable_variables, gradients
    ):
        np.testing.assert_allclose(
            variable, before - 0.5 * gradient, rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize("num_modules", [8, 9])
def test_many_modules_are_warned_of(num_modules):
    """Of more than 8: the study has them behind back-propagation."""
    network = [keras.layers.Dense(2) for _ in range(num_modules - 1)]
    network.insert(0, keras.Sequential([
        keras.Input((2,)), keras.layers.Dense(2),
    ]))
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        fr_keras.FeaturesReplay(network)
    said = [str(w.message) for w in found]
    assert any("8 iterations late" in s for s in said) == (num_modules == 9)


@pytest.mark.parametrize("layer, optimizer, arguments, expected", [
    ("LayerNormalization", keras.optimizers.Adam, {}, True),
    ("LayerNormalization", keras.optimizers.Adam, {"clipnorm": 1.0}, False),
    ("LayerNormalization", keras.optimizers.SGD, {"clipvalue": 1.0}, False),
    ("BatchNormalization", keras.optimizers.SGD, {}, False),
])
def test_late_gradients_that_are_not_clipped(
    layer, optimizer, arguments, expected
):
    """What the user is told to do about it in `compile`."""
    network = keras.Sequential([
        keras.Input((2,)), keras.layers.Dense(2),
        keras.Sequential([getattr(keras.layers, layer)()]),
        keras.layers.Dense(1),
    ])

    def said(**options):
        model = fr_keras.FeaturesReplay(network, 2, **options)
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always")
            model.compile(optimizer(**arguments), "mse")
        return any("global_clipnorm=1.0" in str(w.message) for w in found)

    assert said() == expected
    assert not said(weight_prediction=False)
