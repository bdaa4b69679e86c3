"""Which module goes on which device, and how a model gets there."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import fr_keras
from fr_keras.engine import placement
from tests.kinds import (
    Subclassed,
    Unserializable,
    assert_equal,
    devices_of,
    full,
    layers_of_all_kinds,
    nested,
    residual,
    values,
)

# Devices.


def test_default_is_all_logical_devices():
    assert placement.assign_devices(8) == tuple(full(i) for i in range(8))
    assert placement.assign_devices(3) == (full(0), full(1), full(2))
    assert placement.default_num_modules() == 8


def test_fewer_devices_than_modules_are_shared_round_robin():
    devices = placement.assign_devices(10)
    assert devices == tuple(full(i) for i in [0, 1, 2, 3, 4, 5, 6, 7, 0, 1])
    assert placement.assign_devices(5, ["CPU:3", "CPU:1"]) == (
        full(3), full(1), full(3), full(1), full(3)
    )


def test_more_devices_than_modules():
    assert placement.assign_devices(1, ["CPU:5", "CPU:6"]) == (full(5),)


@pytest.mark.parametrize(
    "name, index",
    [
        ("cpu:1", 1),
        ("CPU:7", 7),
        ("cpu", 0),
        ("/CPU:2", 2),
        ("/cpu:2", 2),
        ("/device:CPU:3", 3),
        ("/device:cpu:3", 3),
        (full(4), 4),
        ("/job:localhost/device:CPU:5", 5),
    ],
)
def test_spellings(name, index):
    assert placement.assign_devices(1, [name]) == (full(index),)
    # As TensorFlow itself names what is made there.
    with tf.device(placement.assign_devices(1, (name,))[0]):
        assert tf.Variable(0.0).device == full(index)


@pytest.mark.parametrize(
    "name",
    [
        "CPU:8", "GPU:99", "TPU:0", "/device:CPU:12", "banana", "", "CPU:x",
        "/job:worker/task:0/device:CPU:0", "/banana", 3, None,
    ],
)
def test_unknown_device(name):
    with pytest.raises(ValueError, match="must name available") as error:
        placement.assign_devices(2, ["CPU:0", name])
    assert str(error.value).endswith(f"Received: device={name!r}")
    assert "CPU:7" in str(error.value)


@pytest.mark.parametrize("devices", [[], (), "CPU:0", ""])
def test_no_list_of_devices(devices):
    with pytest.raises(ValueError, match="non-empty list") as error:
        placement.assign_devices(2, devices)
    assert str(error.value).endswith(f"Received: devices={devices!r}")
    with pytest.raises(ValueError, match="non-empty list"):
        placement.default_num_modules(devices)


@pytest.mark.parametrize(
    "devices, expected",
    [
        (["CPU:0"], 1),
        (["CPU:3", "CPU:1", "CPU:6"], 3),
        (["CPU:1", "/device:cpu:1", full(1), "CPU:2"], 2),
    ],
)
def test_default_number_of_modules(devices, expected):
    assert placement.default_num_modules(devices) == expected


# Moving.


@pytest.mark.parametrize(
    "make",
    [
        layers_of_all_kinds,
        residual,
        nested,
        lambda: Subclassed(),
        lambda: Unserializable(lambda x: x + 1),
        lambda: keras.layers.LSTM(3, recurrent_dropout=0.1),
    ],
)
def test_move(make):
    layer = make()
    x = np.ones([2, 4] if "lstm" not in layer.name else [2, 3, 4], "float32")
    layer(x)
    expected = np.array(layer(x, training=False))
    before, variables = values(layer), [id(v) for v in layer.variables]
    if isinstance(layer, keras.Model):
        layer.predict(x, verbose=0)

    placement.move([layer], full(3))

    assert devices_of(layer) == {full(3)}
    assert [id(v) for v in layer.variables] == variables
    assert_equal(values(layer), before)
    np.testing.assert_array_equal(layer(x, training=False), expected)
    # Nothing still sees the variables in their old place.
    for variable in layer.trainable_variables:
        variable.assign(0 * variable)
    for variable in layer.trainable_variables:
        assert (np.array(variable) == 0).all()
    if isinstance(layer, keras.Model):
        np.testing.assert_array_equal(
            layer.predict(x, verbose=0), layer(x, training=False)
        )


def test_variables_made_later_are_made_elsewhere():
    layer = keras.layers.Dense(3)
    placement.move([layer], full(3))
    with tf.device(full(2)):
        layer.build((None, 4))
    assert devices_of(layer) == {full(2)}


def test_moved_variables_are_saved(tmp_path):
    model = residual()
    placement.move([model], full(4))
    before = values(model)
    model.save_weights(tmp_path / "of.weights.h5")
    checkpoint = tf.train.Checkpoint(model=model).write(tmp_path / "checkpoint")
    for restore in (
        lambda: model.load_weights(tmp_path / "of.weights.h5"),
        lambda: tf.train.Checkpoint(model=model).read(checkpoint),
    ):
        for variable in model.trainable_variables:
            variable.assign(0 * variable)
        restore()
        assert_equal(values(model), before)
    assert devices_of(model) == {full(4)}


def test_saved_model_is_trained_on_any_device(tmp_path):
    """Its variables stay: what was saved cannot be traced anew."""
    saved = keras.Sequential([keras.Input((4,)), keras.layers.Dense(4)])
    saved.export(tmp_path, verbose=False)
    layer = keras.layers.TFSMLayer(tmp_path, call_endpoint="serve")
    inputs = keras.Input((4,))
    model = fr_keras.FeaturesReplay(
        keras.Model(inputs, keras.layers.Dense(3)(layer(
            keras.layers.Dense(4)(inputs)
        ))), 3, devices=["CPU:1", "CPU:2", "CPU:3"],
    )
    before = [v.numpy() for v in model.modules[1].trainable_variables]
    model.compile("sgd", "mse")
    model.fit(np.ones((8, 4)), np.ones((8, 3)), batch_size=2, verbose=0)
    after = [v.numpy() for v in model.modules[1].trainable_variables]
    assert len(before) == 2
    assert all((a != b).any() for a, b in zip(after, before))
