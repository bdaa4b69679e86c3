"""Saving, loading, exporting."""

import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

import fr_keras

layers = keras.layers


def net():
    inputs = keras.Input((6,), name="x")
    x = layers.Dense(5, activation="tanh")(inputs)
    x = layers.BatchNormalization()(layers.Dense(5)(x) + x)
    return keras.Model(inputs, layers.Dense(3)(layers.Dense(5)(x)))


def data():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(24, 6)).astype("float32")
    return x, rng.normal(size=(24, 3)).astype("float32")


def trained(model, **options):
    model.compile(
        keras.optimizers.Adam(0.02), "mse", metrics=["mae"],
        steps_per_execution=2, **options
    )
    model.fit(*data(), batch_size=4, verbose=0)
    return model


def assert_same_variables(ours, theirs):
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs):
        np.testing.assert_array_equal(a.numpy(), b.numpy())


@keras.saving.register_keras_serializable("saving_test")
class Block(keras.Model):
    def __init__(self, units=5, **kwargs):
        super().__init__(**kwargs)
        self.dense = layers.Dense(units)

    def call(self, x):
        return keras.ops.tanh(self.dense(x))


class Unsaveable(keras.Model):
    """Keras cannot copy it: a function is no configuration."""

    def __init__(self, function):
        super().__init__()
        self.dense, self.function = layers.Dense(3), function

    def call(self, x):
        return self.function(self.dense(x))


def ready_made():
    return [Block(), keras.Sequential([layers.Dense(4)]), layers.Dense(3)]


MODELS = {
    "features_replay": lambda: fr_keras.FeaturesReplay(net(), 3),
    "backprop": lambda: fr_keras.Backprop(net(), 2),
    "modules": lambda: fr_keras.FeaturesReplay(ready_made()),
}


@pytest.mark.parametrize("name", list(MODELS))
@pytest.mark.quick_cases("features_replay")
def test_save_and_load(name, tmp_path):
    model = trained(MODELS[name]())
    model.save(tmp_path / "model.keras")

    loaded = keras.models.load_model(tmp_path / "model.keras")

    assert type(loaded) is type(model)
    assert loaded.devices == model.devices
    assert loaded.steps_per_execution == 2
    x, y = data()
    np.testing.assert_array_equal(
        loaded.predict(x, verbose=0), model.predict(x, verbose=0)
    )
    assert loaded.evaluate(x, y, verbose=0) == model.evaluate(x, y, verbose=0)
    assert_same_variables(loaded.optimizer.variables, model.optimizer.variables)
    loaded.fit(x, y, verbose=0)


@pytest.mark.parametrize(
    "name, arguments",
    [
        ("features_replay", {"gradient_shrink": 0.5}),
        ("ddg", {"gradient_shrink": 0.5}),
        ("gpipe", {"num_microbatches": 2, "recompute": False}),
        ("dni", {"synthesizer_width": 7}),
        ("backprop", {}),
    ],
)
@pytest.mark.quick_cases("gpipe", "features_replay")
def test_every_algorithm_with_its_arguments(name, arguments, tmp_path):
    algorithm = fr_keras.ALGORITHMS[name]
    model = trained(algorithm(net(), 2, **arguments))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert type(loaded) is algorithm
    for argument, value in arguments.items():
        assert getattr(loaded, argument) == value
    # Synthesizers are not saved.
    assert_same_variables(loaded.weights, model.weights)
    loaded.fit(*data(), batch_size=4, verbose=0)


def test_costs_are_kept(tmp_path):
    """The modules are those that were trained, though times have changed."""
    network = net()
    _, first, *others = [layer.name for layer in network.layers]
    model = trained(fr_keras.FeaturesReplay(
        network, 2, costs={first: (9, 3), **dict.fromkeys(others, 0.5)}
    ))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert [layer.name for layer in model.modules[0].layers[1:]] == [first]
    assert [layer.name for layer in loaded.modules[0].layers[1:]] == [first]
    assert loaded.costs == model.costs


def test_loaded_model_is_compiled_alike(tmp_path):
    model = trained(fr_keras.FeaturesReplay(net(), 2), jit_compile=True)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    loaded.fit(*data(), batch_size=4, verbose=0)
    assert loaded.pipeline.learn._learn._function._jit_compile


def test_devices_that_are_not_here(tmp_path):
    model = trained(fr_keras.FeaturesReplay(net(), 2, devices=["CPU:6"]))
    config = model.get_config()
    config["devices"] = ["GPU:6"]
    with pytest.warns(UserWarning, match=r"\['GPU:6'\], which are not all"):
        loaded = fr_keras.FeaturesReplay.from_config(config)
    assert [d[-5:] for d in loaded.devices] == ["CPU:0", "CPU:1"]


@pytest.mark.parametrize("num_modules", [1, 2, 4])
def test_weights_do_not_depend_on_the_cut(num_modules, tmp_path):
    model = trained(fr_keras.FeaturesReplay(net(), 3))
    model.save_weights(tmp_path / "of.weights.h5")
    other = fr_keras.Backprop(net(), num_modules)
    other.load_weights(tmp_path / "of.weights.h5")
    assert_same_variables(other.variables, model.variables)


def test_checkpoint_of_tensorflow(tmp_path):
    model = trained(fr_keras.FeaturesReplay(net(), 3))
    path = tf.train.Checkpoint(model=model).write(str(tmp_path / "checkpoint"))
    other = trained(fr_keras.FeaturesReplay(net(), 3))
    tf.train.Checkpoint(model=other).read(path)
    assert_same_variables(other.variables, model.variables)


@pytest.mark.parametrize("name", list(MODELS))
def test_to_keras_is_one_plain_model(name):
    model = trained(MODELS[name]())
    x, y = data()
    network = model.to_keras()
    assert not isinstance(network, fr_keras.FeaturesReplay)
    before = np.array(network(x))
    np.testing.assert_allclose(
        before, model.predict(x, verbose=0), rtol=1e-5, atol=1e-6
    )
    model.fit(x, y, batch_size=4, verbose=0)
    np.testing.assert_array_equal(network(x), before)
    assert np.abs(model.predict(x, verbose=0) - before).max() > 1e-3


def test_to_keras_has_the_structure_that_was_given(tmp_path):
    network = net()
    model = trained(fr_keras.FeaturesReplay(network, 3))
    plain = model.to_keras()
    assert [layer.name for layer in plain.layers] == [
        layer.name for layer in network.layers
    ]
    sequential = keras.Sequential([keras.Input((6,)), layers.Dense(5),
                                   layers.Dense(3)])
    model = trained(fr_keras.FeaturesReplay(sequential, 2))
    assert isinstance(model.to_keras(), keras.Sequential)


def test_model_that_is_cut_stays_as_it_is():
    network = net()
    before = [v.numpy() for v in network.variables]
    trained(fr_keras.FeaturesReplay(network, 3))
    for variable, value in zip(network.variables, before):
        np.testing.assert_array_equal(variable.numpy(), value)


def test_ready_made_modules_are_trained_themselves():
    modules = ready_made()
    x, _ = data()
    outputs = x
    for module in modules:
        outputs = module(outputs)
    model = trained(fr_keras.FeaturesReplay(modules))
    assert model.modules == tuple(modules)
    trained_outputs = x
    for module in modules:
        trained_outputs = module(trained_outputs)
    assert np.abs(np.array(trained_outputs) - np.array(outputs)).max() > 1e-3
    np.testing.assert_allclose(
        trained_outputs, model.predict(x, verbose=0), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize(
    "make",
    [
        lambda: fr_keras.FeaturesReplay(net(), 3),
        lambda: fr_keras.FeaturesReplay(
            [layers.Dense(4), Unsaveable(lambda x: x + 1.0)]
        ),
    ],
)
@pytest.mark.quick_cases("0")
def test_export_serves_without_fr_keras(make, tmp_path):
    model = trained(make())
    x, _ = data()
    model.export(tmp_path / "served", verbose=False)
    np.save(tmp_path / "x.npy", x)
    program = (
        "import sys, numpy as np, tensorflow as tf\n"
        f"served = tf.saved_model.load({str(tmp_path / 'served')!r})\n"
        f"y = served.serve(np.load({str(tmp_path / 'x.npy')!r}))\n"
        f"np.save({str(tmp_path / 'y.npy')!r}, y)\n"
        "assert 'fr_keras' not in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(
        np.load(tmp_path / "y.npy"), model.predict(x, verbose=0),
        rtol=1e-5, atol=1e-6,
    )


@keras.saving.register_keras_serializable("saving_test")
class Both(keras.Model):
    """Takes a dict."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.a, self.b = layers.Dense(4), layers.Dense(4)

    def call(self, x):
        return self.a(x["a"]) + self.b(x["b"])


def test_modules_that_take_a_dict(tmp_path):
    model = fr_keras.FeaturesReplay([Both(), layers.Dense(3)])
    x, y = data()
    x = {"a": x, "b": x[:, :2]}
    model.compile("sgd", "mse")
    model.fit(x, y, batch_size=4, verbose=0)
    expected = model.predict(x, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    for network in (model.to_keras(), loaded, loaded.to_keras()):
        np.testing.assert_allclose(
            network.predict(x, verbose=0), expected, rtol=1e-5, atol=1e-6
        )


def test_to_keras_of_unknown_input():
    model = fr_keras.FeaturesReplay([Block(), layers.Dense(3)])
    with pytest.raises(ValueError, match="known input.*Received: modules.0."):
        model.to_keras()
