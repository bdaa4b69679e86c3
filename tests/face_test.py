"""Modules on devices look like the network that was cut."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import fr_keras

layers = keras.layers


def network():
    inputs = keras.Input((6,), name="x")
    x = layers.Dense(5, activation="tanh", name="first")(inputs)
    inner = keras.Sequential(
        [keras.Input((5,)), layers.Dense(5, name="deep"),
         layers.BatchNormalization()], name="inner",
    )
    a = layers.Dense(3, name="a")(inner(x))
    b = layers.Dense(2, name="b")(x)
    return keras.Model(inputs, [a, b], name="net")


def data(num_examples=24):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(num_examples, 6)).astype("float32")
    return x, [
        rng.normal(size=(num_examples, width)).astype("float32")
        for width in (3, 2)
    ]


@pytest.fixture(params=[1, 3])
def model(request):
    return fr_keras.FeaturesReplay(network(), request.param)


def test_layers_and_names(model):
    plain = network()
    for name in ("input_shape", "output_shape", "output_names"):
        assert getattr(model, name) == getattr(plain, name), name
    assert [layer.name for layer in model.layers] == [
        layer.name for layer in plain.layers
    ]
    assert [t.name for t in model.inputs] == ["x"]
    assert [tuple(t.shape) for t in model.outputs] == [(None, 3), (None, 2)]
    assert model.get_layer("inner").get_layer("deep").units == 5
    assert model.get_layer(index=1).name == "first"
    # To look into the network, as `keras.Model(model.inputs, …)` does.
    features = keras.Model(model.input, model.get_layer("first").output)
    x, _ = data()
    assert features(x).shape == (24, 5)
    with pytest.raises(AttributeError, match="cannot be set"):
        model.layers = []


def test_ready_made_modules_have_no_inputs_of_their_own():
    model = fr_keras.FeaturesReplay([layers.Dense(4), layers.Dense(3)])
    with pytest.raises(AttributeError, match="list of modules.*Received"):
        _ = model.network
    assert not hasattr(model, "inputs")
    assert model.layers == list(model.modules)


def test_logs_have_the_names_of_the_outputs(model):
    x, y = data()
    for loss, metrics in (
        (["mse", "mae"], [["mae"], ["mse"]]),
        ({"a": "mse", "b": "mse"}, {"a": ["mae"], "b": ["mae"]}),
    ):
        plain = network()
        plain.compile("sgd", loss, metrics=metrics)
        expected = plain.fit(x, y, verbose=0).history
        model.compile("sgd", loss, metrics=metrics)
        assert model.fit(x, y, verbose=0).history.keys() == expected.keys()
    # Labels by name.
    named = dict(zip("ab", y))
    model.fit(x, named, verbose=0)


def test_layers_that_are_frozen_are_not_trained():
    x, y = data()
    model = fr_keras.Backprop(network(), 2)
    for layer in model.layers[:-2]:
        layer.trainable = False
    model.compile("sgd", ["mse", "mse"])
    before = {w.path: w.numpy() for w in model.weights}
    model.fit(x, y, verbose=0)
    moved = {
        w.path for w in model.weights if (w.numpy() != before[w.path]).any()
    }
    assert {path.split("/")[0] for path in moved} == {"a", "b"}


@pytest.mark.parametrize("num_modules", [1, 2])
def test_network_that_is_frozen_as_a_whole(num_modules):
    """In Keras, `trainable` of the whole counts, whatever its layers say."""
    plain = network()
    plain.trainable = False
    plain.get_layer("first").trainable = True
    assert not plain.trainable_variables
    model = fr_keras.Backprop(plain, num_modules)
    model.compile("sgd", ["mse", "mse"])
    before = [w.numpy() for w in model.weights]
    x, y = data()
    with pytest.warns(UserWarning, match="any trainable weights"):
        model.fit(x, y, verbose=0)
    # (Averages of batch normalization, frozen, do not move either.)
    for weight, value in zip(model.weights, before):
        np.testing.assert_array_equal(weight.numpy(), value)


def test_files_of_weights_are_those_of_the_plain_model(model, tmp_path):
    x, y = data()
    model.compile("sgd", ["mse", "mse"])
    model.fit(x, y, verbose=0)
    model.save_weights(tmp_path / "ours.weights.h5")
    plain = network()
    plain.load_weights(tmp_path / "ours.weights.h5")
    for a, b in zip(plain.predict(x, verbose=0), model.predict(x, verbose=0)):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)

    other = network()
    other.save_weights(tmp_path / "plain.weights.h5")
    model.load_weights(tmp_path / "plain.weights.h5")
    for a, b in zip(other.predict(x, verbose=0), model.predict(x, verbose=0)):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_copy_false_trains_the_model_itself():
    plain = network()
    model = fr_keras.FeaturesReplay(plain, 2, copy=False)
    x, y = data()
    before = plain.predict(x, verbose=0)
    model.compile("sgd", ["mse", "mse"])
    model.fit(x, y, verbose=0)
    after = plain.predict(x, verbose=0)
    assert np.abs(after[0] - before[0]).max() > 1e-4
    for a, b in zip(after, model.predict(x, verbose=0)):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    assert model.network is plain
    with pytest.raises(ValueError, match="never copied.*Received: copy=False"):
        fr_keras.FeaturesReplay([layers.Dense(3)], copy=False)


class Own(layers.Layer):
    """Cannot be copied."""

    def __init__(self, function):
        super().__init__(name="own")
        self.dense, self.function = layers.Dense(6), function

    def call(self, x):
        return self.function(self.dense(x))


class Named(keras.Model):
    """Cannot be made again: its configuration lacks an argument."""

    def __init__(self, width, **kwargs):
        inputs = keras.Input((4,))
        x = keras.layers.Dense(width)(inputs)
        super().__init__(inputs, keras.layers.Dense(2)(x), **kwargs)

    def get_config(self):
        return {"name": self.name}


def test_class_that_cannot_be_made_again_is_announced():
    with pytest.warns(UserWarning, match="Named cannot be re-created.*copy="):
        model = fr_keras.Backprop(Named(3), 2)
    assert type(model.to_keras()).__name__ == "Functional"
    network = Named(3)
    assert fr_keras.Backprop(network, 2, copy=False).to_keras() is network


def test_layer_that_cannot_be_copied_is_trained_itself():
    own = Own(lambda x: keras.ops.tanh(x))
    plain = keras.Sequential(
        [keras.Input((6,)), layers.Dense(6), own, layers.Dense(3)]
    )
    with pytest.warns(UserWarning, match="cannot be copied.*'own'.*Own"):
        model = fr_keras.FeaturesReplay(plain, 3)
    before = [w.numpy() for w in plain.weights]
    x, (y, _) = data()
    model.compile("sgd", "mse")
    model.fit(x, y, batch_size=4, verbose=0)
    moved = [
        (w.numpy() != value).any() for w, value in zip(plain.weights, before)
    ]
    assert moved == [False, False, True, True, False, False]
    with pytest.warns(UserWarning, match="cannot be copied.*'own'"):
        again = model.to_keras()
    np.testing.assert_allclose(
        again.predict(x, verbose=0), model.predict(x, verbose=0), rtol=1e-5,
        atol=1e-6,
    )


@pytest.mark.parametrize(
    "name, function",
    [
        ("train_step", lambda self, data: {}),
        ("test_step", lambda self, data: {}),
        ("predict_step", lambda self, data: data),
        ("compute_loss", lambda self, **_: tf.constant(0.0)),
        ("compute_metrics", lambda self, *_: {}),
        ("call", lambda self, inputs, training=None: inputs),
    ],
)
def test_model_with_a_step_of_its_own_is_refused(name, function):
    custom = type("Custom", (keras.Model,), {name: function})
    plain = network()
    with pytest.raises(
        ValueError, match=f"Custom must train.*overrides '{name}'.*Received:"
    ):
        fr_keras.FeaturesReplay(custom(plain.inputs, plain.outputs), 2)
    # Set on the object, too.
    plain = network()
    setattr(plain, name, lambda *args, **kwargs: None)
    with pytest.raises(ValueError, match=f"overrides '{name}'"):
        fr_keras.Backprop(plain, 2)


def test_subclass_without_steps_of_its_own_is_trained():
    class Plain(keras.Model):
        def tokens(self):
            return 3

    plain = network()
    model = fr_keras.FeaturesReplay(Plain(plain.inputs, plain.outputs), 2)
    model.compile("sgd", ["mse", "mse"])
    model.fit(*data(), verbose=0)


def test_model_that_was_trained_itself_comes_back():
    """With `copy=False`; what it had traced before sees the new weights."""
    plain = network()
    x, y = data()
    before = plain.predict(x, verbose=0)
    twin = fr_keras.FeaturesReplay(plain, 2)
    model = fr_keras.FeaturesReplay(
        plain, 2, devices=["CPU:1", "CPU:2"], copy=False
    )
    model.compile("sgd", ["mse", "mse"])
    model.fit(x, y, batch_size=4, shuffle=False, verbose=0)
    expected = model.predict(x, verbose=0)
    away = {v.value.device[-1] for v in plain.variables}

    assert model.to_keras() is plain

    assert away == {"1", "2"}
    assert {v.value.device[-1] for v in plain.variables} == {"0"}
    after = plain.predict(x, verbose=0)
    assert np.abs(after[0] - before[0]).max() > 1e-4
    for a, b in zip(after, expected):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    # And goes to the devices again, with the state of its training.
    iterations = int(model.optimizer.iterations)
    model.fit(x, y, batch_size=4, shuffle=False, verbose=0)
    assert int(model.optimizer.iterations) == 2 * iterations
    assert model.training.num_iterations == 2 * iterations
    assert {v.value.device[-1] for v in plain.variables} == {"1", "2"}
    # As if it had never been home.
    twin.compile("sgd", ["mse", "mse"])
    for _ in range(2):
        twin.fit(x, y, batch_size=4, shuffle=False, verbose=0)
    for a, b in zip(twin.weights, plain.weights, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())
