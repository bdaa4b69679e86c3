"""DNI against its plain reference."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

import fr_keras
from tests import agreement, reference
from tests.small_net import assert_same, compiled, data, fit, values

layers = keras.layers
SYNTHESIZER_RATE, WIDTH = 2.0**-10, 3


def seeded_synthesizer(k, shape, **options):
    """The synthesizer of module k, whoever asks for it."""
    keras.utils.set_random_seed(k)
    return fr_keras.models.synthesizer(shape, **options)


def plain_dni(modules, synthesizers, optimizer, learning_rate, batches):
    """Synthetic gradients, written out.

    Args:
        modules: as for `reference.features_replay`, as are the last three.
        synthesizers: list of `PlainModule`, for k = 1 … K - 1.
        optimizer: function.
        learning_rate: function.
        batches: list.

    Returns:
        List of the losses.
    """
    K = len(modules)
    rules = [optimizer() for _ in modules]
    rules_of_synthesizers = [reference.SGD(0.875) for _ in synthesizers]
    losses = []
    for t, (x, y) in enumerate(batches):
        h = [tf.constant(x)]
        e, g = [None] * K, [None] * K
        for k, module in enumerate(modules):
            weights = sum(module.weights, [])
            with tf.GradientTape() as tape:
                tape.watch([weights, h[k]])
                out = module.forward(module.weights, h[k], True)
                if k == K - 1:
                    objective = reference.cross_entropy(y, out)
                    losses.append(float(objective))
                else:
                    s = synthesizers[k]
                    delta = s.forward(s.weights, out, True) / len(x)
                    objective = tf.reduce_sum(out * tf.stop_gradient(delta))
            g[k], e[k] = tape.gradient(objective, [weights, h[k]])
            h.append(out)
        for k, module in enumerate(modules):
            reference.update(module, rules[k], g[k], learning_rate(t))
        for k, s in enumerate(synthesizers):
            weights = sum(s.weights, [])
            with tf.GradientTape() as tape:
                tape.watch(weights)
                predicted = s.forward(s.weights, h[k + 1], False)
                # Each example has a gradient of its own, and so many parts.
                error = predicted - len(x) * e[k + 1]
                error = tf.reduce_mean(error**2) * np.prod(error.shape[1:])
            reference.update(
                s, rules_of_synthesizers[k], tape.gradient(error, weights),
                SYNTHESIZER_RATE,
            )
    return losses


def cases():
    for num_modules, net, steps in itertools.product(
        [1, 2, 3, 4], [agreement.dense_net, agreement.convolutional_net],
        [1, 5],
    ):
        fast = steps == 5 and (
            net is agreement.convolutional_net or num_modules == 3
        )
        yield pytest.param(
            num_modules, net, steps, marks=[pytest.mark.slow] * (not fast)
        )


@pytest.mark.parametrize("num_modules, net, steps", list(cases()))
@pytest.mark.quick_cases("3-convolutional_net-5")
def test_agrees_with_reference(float64, monkeypatch, num_modules, net, steps):
    models, synthesizers = [], []

    def algorithm(network, num_modules):
        models.append(
            fr_keras.DNI(
                network, num_modules, synthesizer_width=WIDTH,
                synthesizer_optimizer=keras.optimizers.SGD(
                    SYNTHESIZER_RATE, momentum=0.875, nesterov=True
                ),
            )
        )
        return models[0]

    def plain(modules, *args):
        for k, module in enumerate(models[0].modules[:-1]):
            s = seeded_synthesizer(k, module.output_shape, width=WIDTH)
            synthesizers.append(reference.PlainModule(s.layers))
        return plain_dni(modules, synthesizers, *args)

    numbers = itertools.count()
    monkeypatch.setattr(
        "fr_keras.algorithms.dni.synthesizer",
        lambda *args, **options: seeded_synthesizer(
            next(numbers), *args, **options
        ),
    )
    model = agreement.check(
        algorithm, plain, num_modules, net, "nesterov", steps
    )

    ours = model.pipeline._synthesizers
    assert len(ours) == len(synthesizers) == num_modules - 1
    for own, theirs in zip(ours, synthesizers):
        (network,) = own._networks.values()
        agreement.assert_close(
            network.submodel.trainable_variables, sum(theirs.weights, [])
        )
        # It has learned something.
        assert np.abs(theirs.weights[-1][0]).max() > 1e-5


def test_nothing_is_predicted_at_first():
    """Zero at first: modules below the last do not move for one iteration."""
    model = compiled(algorithm=fr_keras.DNI)
    before = [[v.numpy() for v in m.trainable_variables] for m in model.modules]
    fit(model, *data(1))
    for k, module in enumerate(model.modules):
        moved = [
            bool((v.numpy() != value).any())
            for v, value in zip(module.trainable_variables, before[k])
        ]
        assert any(moved) == (k == model.num_modules - 1)


def test_run_eagerly():
    models = []
    for run_eagerly in (False, True):
        keras.utils.set_random_seed(1)
        models.append(compiled(algorithm=fr_keras.DNI, run_eagerly=run_eagerly))
        fit(models[-1], epochs=2)
    assert_same(values(models[1]), values(models[0]), rtol=1e-3)


def test_every_tensor_of_a_boundary_has_a_synthesizer():
    inputs = keras.Input((6,))
    a = layers.Dense(5, activation="tanh")(inputs)
    b = layers.Dense(4, activation="tanh")(a)
    c = layers.Dense(3, activation="tanh")(b)
    outputs = layers.Dense(3)(layers.Concatenate()([a, c]))
    network = keras.Model(inputs, outputs)
    model = fr_keras.DNI(network, 3, synthesizer_optimizer="sgd")
    model.compile("sgd", "mse")
    fit(model)
    for module, device, synthesizer in zip(
        model.modules, model.devices, model.pipeline._synthesizers
    ):
        assert len(synthesizer._networks) == len(module.outputs)
        for tensor, network in zip(
            module.outputs, synthesizer._networks.values()
        ):
            assert network.submodel.output_shape == tensor.shape
            for variable in (
                network.submodel.variables + network.optimizer.variables
            ):
                assert variable.value.device == device
    assert max(len(s._networks) for s in model.pipeline._synthesizers) == 2


def test_frozen_module_needs_no_prediction():
    model = compiled(algorithm=fr_keras.DNI)
    model.modules[0].trainable = False
    model.compile("sgd", "mse")
    fit(model)
    assert not model.pipeline._synthesizers[0]._networks
    assert model.pipeline._synthesizers[1]._networks


def test_arguments_are_saved():
    model = compiled()
    model = fr_keras.DNI(
        model.to_keras(), 2, synthesizer_width=7,
        synthesizer_optimizer=keras.optimizers.SGD(0.25),
    )
    copy = fr_keras.DNI.from_config(model.get_config())
    assert copy.synthesizer_width == 7
    assert float(copy.synthesizer_optimizer.learning_rate) == 0.25


def test_no_synthesizer_for_a_shape():
    below = keras.Sequential(
        [layers.Dense(16), layers.Reshape((2, 2, 2, 2, 1))]
    )
    model = fr_keras.DNI([below, layers.Dense(3)])
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="Received: features of") as error:
        model.train_on_batch(np.ones([4, 16]), np.ones([4, 2, 2, 2, 2, 3]))
    assert "\n" not in str(error.value)
