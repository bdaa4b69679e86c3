"""Weights that several modules use: owned by one, features to the others."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import fr_keras
from fr_keras.engine.nested import depth_first_order
from tests import comparison
from tests.reference import SGD

layers = keras.layers
VOCABULARY, WIDTH, LENGTH, BATCH, STEPS = 7, 4, 3, 4, 8
RATE, MOMENTUM = 2.0**-4, 0.875


def language_model(num_layers=2, tie_weights=True):
    """A table that is the first layer and, transposed, the last."""
    inputs = keras.Input((LENGTH,), dtype="int32")
    table = layers.ReversibleEmbedding(
        VOCABULARY, WIDTH, tie_weights=tie_weights, name="table"
    )
    x = table(inputs)
    for i in range(num_layers):
        x = layers.Dense(
            WIDTH, activation="tanh", use_bias=False, name=f"dense_{i}"
        )(x)
    return keras.Model(inputs, table(x, reverse=True))


def tokens(seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, VOCABULARY, (BATCH * STEPS, LENGTH))


def loss():
    # Of the present precision.
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def trained(model, **options):
    model.compile(keras.optimizers.SGD(RATE, MOMENTUM), loss(), **options)
    return model.fit(
        tokens(), tokens(1), batch_size=BATCH, shuffle=False, verbose=0
    )


def values(model):
    """Weights by the names that layers and weights were given."""
    return {
        "/".join(w.path.split("/")[-2:]): w.numpy() for w in model.weights
    }


def assert_close(actual, expected, rtol=1e-10):
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        error = np.max(np.abs(actual[name] - value))
        assert error <= rtol * np.max(np.abs(value)), (name, error)


@pytest.mark.parametrize("ahead", [False, True])
def test_features_replay_is_the_reference(float64, ahead):
    """Two modules by hand: the table is a feature with an error gradient."""
    policy = comparison.Ahead()
    model = fr_keras.FeaturesReplay(
        language_model(), 2, weight_prediction=ahead,
        delay_policy=policy if ahead else None,
    )
    table, first, second = (
        model.get_layer(name).weights[0].numpy()
        for name in ("table", "dense_0", "dense_1")
    )
    rules = [SGD(MOMENTUM, nesterov=False) for _ in range(2)]
    x = np.split(tokens(), STEPS)
    y = np.split(tokens(1), STEPS)
    delta, losses = None, []

    def at(k, weights, factor):
        """The weights of module k, from 0, as far ahead as is said."""
        factor = factor(1 - k, MOMENTUM) if ahead else 0.0
        return [
            tf.constant(w + factor * rules[k].last_step(i, None))
            for i, w in enumerate(weights)
        ]

    for t in range(STEPS):
        # Play of module 1, which sends the table as it is now.
        sent, weight = at(0, (table, first), policy.play)
        h = tf.tanh(tf.gather(sent, x[t]) @ weight)
        (head,) = at(1, (second,), policy.replay)
        with tf.GradientTape() as tape:
            tape.watch([h, sent, head])
            logits = tf.tanh(h @ head) @ tf.transpose(sent)
            loss_of_batch = tf.reduce_mean(
                tf.nn.sparse_softmax_cross_entropy_with_logits(y[t], logits)
            )
        losses.append(float(loss_of_batch))
        of_head, *next_delta = tape.gradient(loss_of_batch, [head, h, sent])
        if delta is not None:
            # Replay of the input before, with the weights of today.
            own, weight = at(0, (table, first), policy.replay)
            with tf.GradientTape() as tape:
                tape.watch([own, weight])
                h = tf.tanh(tf.gather(own, x[t - 1]) @ weight)
                objective = tf.reduce_sum(h * delta[0]) + tf.reduce_sum(
                    own * delta[1]
                )
            g = map(tf.convert_to_tensor, tape.gradient(
                objective, [own, weight]
            ))
            table, first = (
                rules[0](i, w, g.numpy(), RATE / 2 if ahead else RATE)
                for i, (w, g) in enumerate(zip((table, first), g))
            )
        second = rules[1](0, second, of_head.numpy(), RATE)
        delta = next_delta

    history = trained(model, steps_per_execution=3)

    assert {layer.name for layer in model.modules[0].layers[1:]} == {
        "table", "table_weights", "dense_0"
    }
    np.testing.assert_allclose(
        history.history["loss"], np.mean(losses), rtol=1e-10
    )
    assert_close(values(model.network), {
        "table/embeddings": table, "dense_0/kernel": first,
        "dense_1/kernel": second,
    })


@pytest.mark.parametrize("num_modules", [1, 2, 4])
@pytest.mark.parametrize("algorithm", ["backprop", "gpipe"])
@pytest.mark.quick_cases("backprop-4", "gpipe-2")
def test_exact_methods_are_keras(float64, algorithm, num_modules):
    network = language_model(4)
    model = fr_keras.ALGORITHMS[algorithm](network, num_modules)
    history = trained(model)
    expected = trained(network, jit_compile=False)
    np.testing.assert_allclose(
        history.history["loss"], expected.history["loss"], rtol=1e-12
    )
    assert_close(values(model.network), values(network), 1e-12)


def test_warm_up_and_ddg(float64):
    """At a learning rate of zero nothing moves, whoever owns the table."""
    for algorithm in (fr_keras.FeaturesReplay, fr_keras.DDG):
        network = language_model(4)
        model = algorithm(network, 3)
        model.compile(keras.optimizers.SGD(0.0), loss())
        history = model.fit(tokens(), tokens(1), batch_size=BATCH, verbose=0)
        assert_close(values(model.network), values(network), 0.0)
        network.compile("sgd", loss())
        np.testing.assert_allclose(
            history.history["loss"][0],
            network.evaluate(tokens(), tokens(1), verbose=0), rtol=1e-7,
        )


def test_what_is_not_tied_is_not_sent():
    """The layer has a table for each direction; each has one module."""
    model = fr_keras.FeaturesReplay(
        language_model(4, tie_weights=False), 3, devices=["CPU:1", "CPU:2",
                                                          "CPU:3"]
    )
    assert [len(module.outputs) for module in model.modules] == [1, 1, 1]
    first, *_, last = model.modules
    names = [[w.name for w in module.weights] for module in (first, last)]
    assert "embeddings" in names[0] and "reverse_embeddings" not in names[0]
    assert "reverse_embeddings" in names[1] and "embeddings" not in names[1]
    assert last.weights[-1].value.device.endswith("CPU:3")
    trained(model)


def test_table_goes_past_the_modules_between():
    """It is no input of what they compute, so they neither keep nor copy it."""
    model = fr_keras.FeaturesReplay(language_model(6), 3)
    trained(model)
    inputs, _ = model.pipeline.queues[1]
    assert len(model.modules[1].inputs) == 2
    assert [v.numpy().shape for v in inputs.variables] == [
        (BATCH, LENGTH, WIDTH)
    ]
    lines = []
    model.summary(print_fn=lines.append)
    text = "\n".join(lines)
    assert "7x4 float32, 112 B of weights per iteration" in text
    assert "from 1 to 3" in text


def test_dni_keeps_tied_layers_together():
    """There is no predicting the error gradient of a table."""
    with pytest.raises(ValueError, match="at most 1.*'table'"):
        fr_keras.DNI(language_model(4), 2)
    inputs = keras.Input((LENGTH,), dtype="int32")
    x = layers.Dense(3)(language_model(4)(inputs))
    model = fr_keras.DNI(keras.Model(inputs, layers.Dense(VOCABULARY)(x)), 2)
    trained(model)
    model = fr_keras.DNI(fr_keras.partition(language_model(4), 2))
    with pytest.raises(ValueError, match="DNI cannot predict.*tied weights"):
        trained(model)


class Counting(layers.Layer):
    """Has a weight, and counts its calls."""

    def build(self, shape):
        self.factor = self.add_weight(shape=(), initializer="ones")
        self.count = self.add_weight(
            shape=(), initializer="zeros", trainable=False
        )

    def call(self, x):
        self.count.assign_add(1.0)
        return self.factor * x


def test_layer_that_counts_its_calls_lies_in_one_module():
    counting = Counting(name="counting")
    inputs = keras.Input((4,))
    x = counting(inputs)
    for _ in range(3):
        x = layers.Dense(4)(x)
    model = keras.Model(inputs, layers.Dense(4)(counting(x)))
    with pytest.raises(ValueError, match="at most 2.*'counting'"):
        fr_keras.partition(model, 3)
    ours = fr_keras.Backprop(model, 2)
    ours.compile("sgd", "mse")
    ours.fit(np.ones([8, 4]), np.ones([8, 4]), batch_size=4, verbose=0)
    assert float(ours.get_layer("counting").count) == 4


def test_metric_that_layers_of_two_modules_share_is_refused():
    metric = keras.metrics.Mean(name="of_two")

    class Measuring(layers.Layer):
        def __init__(self):
            super().__init__()
            self.metric = metric

        def call(self, x):
            self.metric.update_state(keras.ops.mean(x))
            return x

    network = keras.Sequential([keras.Input((4,)), layers.Dense(4),
                                Measuring(), layers.Dense(4), layers.Dense(4),
                                Measuring(), layers.Dense(4)])
    with pytest.raises(ValueError, match="at most 3.*state.*'measuring"):
        fr_keras.FeaturesReplay(network, 4, copy=False)
    # Modules of one's own are seen through when they are traced.
    first, second = (
        keras.Sequential([layers.Dense(4), Measuring()]) for _ in range(2)
    )
    model = fr_keras.Backprop([first, second])
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="to one module"):
        model.fit(np.ones([4, 4]), np.ones([4, 4]), verbose=0)


def test_embedding_that_a_head_has_as_its_part(float64):
    """As KerasHub's MaskedLMHead: another layer, but the same variable."""

    class Head(layers.Layer):
        def __init__(self, table):
            super().__init__(name="head")
            self.table, self.dense = table, layers.Dense(WIDTH)

        def build(self, shape):
            self.dense.build(shape)

        def call(self, x):
            return self.dense(x) @ keras.ops.transpose(self.table.embeddings)

    inputs = keras.Input((LENGTH,), dtype="int32")
    table = layers.Embedding(VOCABULARY, WIDTH, name="table")
    x = table(inputs)
    for _ in range(4):
        x = layers.Dense(WIDTH, activation="tanh")(x)
    network = keras.Model(inputs, Head(table)(x))
    copy = keras.Model(network.inputs, network.outputs)
    assert len(depth_first_order(copy)) == 6
    initial = [weight.numpy() for weight in network.weights]
    trained(network, jit_compile=False)
    expected = [weight.numpy() for weight in network.weights]
    for weight, value in zip(network.weights, initial):
        weight.assign(value)

    model = fr_keras.Backprop(network, 3, copy=False)
    owners = [
        k for k, module in enumerate(model.modules)
        if any(weight is table.embeddings for weight in module.weights)
    ]
    trained(model)

    assert owners == [0]
    for weight, value in zip(network.weights, expected):
        np.testing.assert_allclose(weight.numpy(), value, rtol=1e-10)
