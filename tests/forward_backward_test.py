"""Forward and backward pass apart, against a pass that was not taken apart."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import fr_keras
from fr_keras.engine import structures
from fr_keras.engine.features import Features
from fr_keras.engine.forward_backward import ForwardBackward, record
from fr_keras.engine.module import Module

layers = keras.layers
DEVICE = "/job:localhost/replica:0/task:0/device:CPU:3"


def built(network, shape, dtype="float32"):
    with tf.device(DEVICE):
        module = Module(network, DEVICE)
    module.build(keras.KerasTensor(shape, dtype), [True], is_last=False)
    return module


def passes(module):
    """The two passes as functions, each traced by itself."""
    both = ForwardBackward(module)
    return (
        tf.function(both.forward, autograph=False),
        tf.function(both.backward, autograph=False),
    )


def features(*shape, seed=0):
    rng = np.random.default_rng(seed)
    return Features([tf.constant(rng.normal(size=shape), tf.float32)], [None])


def assert_close(actual, expected, rtol=1e-4):
    actual, expected = map(structures.flatten, (actual, expected))
    assert len(actual) == len(expected)
    for a, b in zip(actual, expected):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol / 10)


NETWORKS = {
    "dense": (
        lambda: [
            layers.Dense(5, activation="gelu", kernel_regularizer="l2"),
            layers.BatchNormalization(),
            layers.Dense(3, activation="tanh", activity_regularizer="l1"),
        ],
        (4, 6),
    ),
    "convolutional": (
        lambda: [
            layers.Conv2D(4, 3, padding="same", use_bias=False),
            fr_keras.layers.FusedBatchNormalization(),
            layers.ReLU(),
            layers.MaxPooling2D(),
            layers.GlobalAveragePooling2D(),
        ],
        (4, 6, 6, 3),
    ),
    "recurrent": (lambda: [layers.LSTM(4), layers.Dense(2)], (4, 5, 3)),
    "attention": (
        lambda: [
            layers.LayerNormalization(),
            layers.GroupQueryAttention(4, 2, 1, name="attention"),
        ],
        (4, 5, 3),
    ),
}


def network_of(name):
    make, shape = NETWORKS[name]
    inputs = keras.Input(shape[1:])
    x = inputs
    for layer in make():
        x = layer(x, x) if layer.name == "attention" else layer(x)
    return keras.Model(inputs, x), shape


@pytest.mark.parametrize("name", NETWORKS)
def test_same_numbers_as_one_pass(name):
    network, shape = network_of(name)
    module = built(network, (None, *shape[1:]))
    forward, backward = passes(module)
    x = features(*shape)
    expected, losses, _, gradient_of = record(module, x)
    delta = [features(*t.shape, seed=1).tensors[0] for t in expected.tensors]

    made, residuals, own_losses, _ = forward(x)
    result = backward(residuals, delta)

    assert_close(made, expected)
    assert_close(own_losses, losses)
    assert_close(result, gradient_of(delta))


@pytest.mark.parametrize("name", NETWORKS)
def test_backward_pass_in_two_parts(name):
    """Of input and weights; much later, when the weights are others."""
    network, shape = network_of(name)
    module = built(network, (None, *shape[1:]))
    both = ForwardBackward(module)
    forward, of_input, of_weights = (
        tf.function(function, autograph=False) for function in (
            both.forward, both.backward_of_input, both.backward_of_weights
        )
    )
    x = features(*shape)
    expected, _, _, gradient_of = record(module, x)
    delta = [features(*t.shape, seed=1).tensors[0] for t in expected.tensors]
    gradients, sent = gradient_of(delta)

    _, residuals, *_ = forward(x)
    kept, own_sent = of_input(residuals, delta)
    for variable in network.variables:
        variable.assign(variable + 1.0)

    assert_close(own_sent, sent)
    assert_close(of_weights(kept), gradients)


def test_gradient_at_the_weights_of_then():
    network, shape = network_of("dense")
    module = built(network, (None, *shape[1:]))
    forward, backward = passes(module)
    x, delta = features(*shape), features(4, 3, seed=1).tensors
    _, _, _, gradient_of = record(module, x)
    expected = gradient_of(delta)

    _, residuals, *_ = forward(x)
    for variable in network.variables:
        variable.assign(variable + 1.0)
    forward(features(*shape, seed=2))

    assert_close(backward(residuals, delta), expected)


@keras.saving.register_keras_serializable("forward_backward_test")
class TensorFlowsDropout(layers.Layer):
    """Draws from a state of TensorFlow's own, which nobody could put back."""

    def call(self, x):
        return x * tf.round(tf.random.uniform(tf.shape(x))) * 2


@pytest.mark.parametrize(
    "dropout", [lambda: layers.Dropout(0.5), TensorFlowsDropout]
)
def test_random_numbers_are_those_of_the_forward_pass(dropout):
    module = built(
        keras.Sequential([layers.Dense(50), dropout()]), (4, 6)
    )
    forward, backward = passes(module)
    made, residuals, *_ = forward(features(4, 6))
    forward(features(4, 6))  # Other random numbers.
    delta = tf.ones_like(made.tensors[0])
    (_, of_bias), _ = backward(residuals, [delta])
    kept = tf.cast(made.tensors[0] != 0, tf.float32)
    np.testing.assert_allclose(of_bias, tf.reduce_sum(2 * kept, 0))


def test_nothing_is_computed_twice():
    network, shape = network_of("convolutional")
    module = built(network, (None, *shape[1:]))
    both = ForwardBackward(module)

    def forward(x):
        return both.forward(x)

    def backward(residuals, delta):
        return both.backward(residuals, delta)

    forward, backward = tf.function(forward), tf.function(backward)
    x = features(*shape)
    made, residuals, *_ = forward(x)
    graphs = [
        forward.get_concrete_function(x).graph,
        backward.get_concrete_function(residuals, made.tensors).graph,
    ]
    kinds = [
        [op.type for op in graph.get_operations()] for graph in graphs
    ]
    for kind, places in {
        "Conv2D": 0, "Relu": 0, "FusedBatchNormV3": 0, "MaxPool": 0,
        "Conv2DBackpropFilter": 1, "Conv2DBackpropInput": 1,
        "FusedBatchNormGradV3": 1, "MaxPoolGrad": 1,
    }.items():
        assert kinds[places].count(kind) == 1
        assert kinds[1 - places].count(kind) == 0
    for graph in graphs:
        for op in graph.get_operations():
            if op.type in ("Conv2D", "Conv2DBackpropFilter", "Relu"):
                assert op.device.endswith("CPU:3")


def test_nothing_is_computed_in_both_parts():
    """The gradient of two layers' weights needs a part of that of the input."""
    module = built(
        keras.Sequential([
            layers.Dense(5, activation="tanh"), layers.Dense(4),
        ]),
        (None, 3),
    )
    both = ForwardBackward(module)
    made, residuals, *_ = tf.function(both.forward)(features(2, 3))
    of_input = tf.function(both.backward_of_input)
    of_weights = tf.function(both.backward_of_weights)
    kept, _ = of_input(residuals, made.tensors)
    graphs = [
        of_input.get_concrete_function(residuals, made.tensors).graph,
        of_weights.get_concrete_function(kept).graph,
    ]
    for kind, counts in {
        "MatMul": [2, 2], "TanhGrad": [1, 0], "BiasAddGrad": [0, 2],
    }.items():
        assert counts == [
            [op.type for op in graph.get_operations()].count(kind)
            for graph in graphs
        ], kind


def test_of_a_shape_only_the_shape_is_kept():
    """The gradient of a mean needs to know of how many, not what."""
    module = built(
        keras.Sequential(
            [layers.Dense(64, use_bias=False), layers.GlobalMaxPooling1D(),
             layers.Reshape((8, 8)), layers.GlobalAveragePooling1D()]
        ),
        (None, 100, 2),
    )
    forward, _ = passes(module)
    _, residuals, *_ = forward(features(4, 100, 2))
    kept = sorted(
        tuple(t.shape) for t in residuals if t.dtype.is_floating
    )
    # Nothing of the 8 × 8 squares.
    assert (4, 8, 8) not in kept
    assert (4, 100, 64) in kept and (4, 64) in kept


@keras.saving.register_keras_serializable("forward_backward_test")
class Checked(layers.Dense):
    """Has a check on which nothing depends."""

    def call(self, x):
        tf.debugging.assert_less(x, 100.0, message="too much")
        return super().call(x)


def test_checks_of_layers_are_made():
    module = built(keras.Sequential([Checked(3)]), (4, 6))
    forward, _ = passes(module)
    forward(features(4, 6))
    x = features(4, 6)
    x.tensors[0] *= 1000.0
    with pytest.raises(tf.errors.InvalidArgumentError, match="too much"):
        forward(x)


def test_sequences_of_any_length_have_the_same_residuals():
    """Where they are stored; otherwise a known length is a constant."""
    network = keras.Sequential([
        keras.Input((None, 3)), layers.LSTM(4, return_sequences=True),
        layers.GlobalAveragePooling1D(), layers.Dense(2),
    ])
    module = built(network, (None, None, 3))

    def kinds(any_length):
        found = []
        for length in (5, 7):
            both = ForwardBackward(module, any_length=any_length)
            traced = tf.function(both.forward).get_concrete_function(
                features(4, length, 3)
            )
            _, residuals, *_ = traced.structured_outputs
            found.append([(of.dtype, of.shape.rank) for of in residuals])
        return found

    one, other = kinds(any_length=True)
    assert one == other
    # Otherwise fewer tensors are needed.
    assert len(kinds(any_length=False)[0]) < len(one)


def test_losses_have_a_weight():
    network = keras.Sequential([layers.Dense(3, kernel_regularizer="l2")])
    module = built(network, (None, 6))
    x, delta = features(4, 6), [tf.zeros([4, 3])]
    gradients = []
    for weight in (1.0, 0.25):
        both = ForwardBackward(module, loss_weight=weight)
        _, residuals, *_ = tf.function(both.forward)(x)
        (of_kernel, _), _ = tf.function(both.backward)(residuals, delta)
        gradients.append(of_kernel)
    np.testing.assert_allclose(gradients[0], 0.02 * network.weights[0])
    np.testing.assert_allclose(gradients[1], gradients[0] / 4)


@pytest.mark.parametrize("replicas", [1, 2])
@pytest.mark.parametrize(
    "method", [fr_keras.Backprop, fr_keras.DDG, fr_keras.Pipeline, fr_keras.DNI]
)
@pytest.mark.quick_cases("Backprop-2", "DDG-1")
def test_batches_of_other_sizes_than_the_input(method, replicas, float64):
    """`keras.Input(batch_size=8)` binds neither shards nor the last batch."""

    def trained(batch_size):
        keras.utils.set_random_seed(2)
        model = method(
            keras.Sequential([
                keras.Input((6,), batch_size=batch_size),
                layers.Dense(5, "tanh"),
                layers.BatchNormalization(), layers.Dense(4, "tanh"),
                layers.Dense(3, activity_regularizer="l2"), layers.Dense(2),
            ]), 2, replicas=replicas,
        )
        model.compile("sgd", "mse")
        rng = np.random.default_rng(0)
        model.fit(
            rng.normal(size=[24, 6]), rng.normal(size=[24, 2]), verbose=0,
            batch_size=8 if replicas == 2 else 16, shuffle=False, epochs=2,
        )
        return model.get_weights()

    for fixed, free in zip(trained(8), trained(None), strict=True):
        np.testing.assert_allclose(fixed, free, rtol=0, atol=1e-12)


class Recurrence(keras.layers.Layer):
    """Unrolls over the sequence, whose length it must know when traced.

    As RWKV7 and Qwen3.5 of KerasHub do.
    """

    def build(self, input_shape):
        self.decay = self.add_weight(shape=(input_shape[-1],))

    def compute_output_spec(self, x):
        return keras.KerasTensor((x.shape[0], x.shape[-1]), x.dtype)

    def call(self, x):
        state = 0.0
        for i in range(keras.ops.shape(x)[1]):
            state = state * self.decay + x[:, i]
        return state


def recurrent_network():
    keras.utils.set_random_seed(0)
    return keras.Sequential([
        keras.Input((None, 4)), keras.layers.Dense(4, name="below"),
        Recurrence(name="recurrence"), keras.layers.Dense(3, name="above"),
    ])


def trained_on_lengths(model):
    """Losses of two calls of `fit`, on sequences of one length."""
    model.compile(keras.optimizers.SGD(0.1), "mse", steps_per_execution=2)
    rng = np.random.default_rng(0)
    return [
        model.fit(
            rng.normal(size=(16, 5, 4)).astype("float32"),
            rng.normal(size=(16, 3)).astype("float32"),
            batch_size=4, epochs=2, shuffle=False, verbose=0,
        ).history["loss"]
        for _ in range(2)
    ]


@pytest.mark.parametrize(
    "algorithm", ["backprop", "features_replay", "gpipe", "pipeline"]
)
def test_layers_know_the_length_of_sequences(algorithm):
    """If Keras knows it, as for a batch of sequences of one length."""
    model = fr_keras.ALGORITHMS[algorithm](
        recurrent_network(), 2, ["CPU:0", "CPU:1"],
        costs={"below": 1, "recurrence": 1, "above": 2},
    )
    assert "recurrence" in [layer.name for layer in model.modules[0].layers]
    losses = trained_on_lengths(model)
    if algorithm == "features_replay":
        assert np.isfinite(losses).all()
    else:
        np.testing.assert_allclose(
            losses, trained_on_lengths(recurrent_network()), rtol=1e-5
        )


def test_stored_residuals_are_for_any_length():
    """So DDG cannot train such a layer; the error names it."""
    model = fr_keras.DDG(recurrent_network(), 2, ["CPU:0", "CPU:1"])
    with pytest.raises(TypeError, match="Recurrence"):
        trained_on_lengths(model)
