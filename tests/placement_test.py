"""Which module goes on which device, and how a model gets there."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from fr_keras import placement


def full(index):
    return f"/job:localhost/replica:0/task:0/device:CPU:{index}"


def layers_of_all_kinds():
    """A Sequential model with weights, statistics and random state."""
    return keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(6, kernel_regularizer="l2", name="dense"),
            keras.layers.BatchNormalization(name="norm"),
            keras.layers.Dropout(0.5, name="dropout"),
            keras.layers.Dense(3, trainable=False, name="frozen"),
        ],
        name="kinds",
    )


def residual():
    inputs = keras.Input((4,))
    x = keras.layers.Dense(4)(inputs)
    x = keras.layers.GaussianNoise(0.5)(x)
    return keras.Model(inputs, keras.layers.Add()([inputs, x]) * 2.0)


def nested():
    return keras.Sequential(
        [keras.Input((4,)), residual(), layers_of_all_kinds()]
    )


@keras.saving.register_keras_serializable("placement_test")
class Subclassed(keras.Model):
    """With `get_config`, as Keras makes it from the constructor's arguments."""

    def __init__(self, units=5, **kwargs):
        super().__init__(**kwargs)
        self.dense = keras.layers.Dense(units)
        self.dropout = keras.layers.Dropout(0.5)

    def call(self, x, training=None):
        return self.dropout(self.dense(x), training=training)


class Unserializable(keras.Model):
    """Keras cannot make a configuration of its argument."""

    def __init__(self, function, **kwargs):
        super().__init__(**kwargs)
        self.function = function
        self.dense = keras.layers.Dense(3)

    def call(self, x):
        return self.function(self.dense(x))


def devices_of(model):
    return {variable.value.device for variable in model.variables}


def values(model):
    return [np.array(variable) for variable in model.variables]


def assert_equal(actual, expected):
    assert len(actual) == len(expected)
    for a, b in zip(actual, expected):
        np.testing.assert_array_equal(a, b)


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


# Copies.


@pytest.mark.parametrize(
    "make", [layers_of_all_kinds, residual, nested]
)
def test_copy_has_the_state_of_the_original(make):
    model = make()
    x = np.random.default_rng(0).normal(size=(5, 4)).astype("float32")
    for _ in range(3):
        model(x, training=True)  # Moves statistics and random state.
    before = values(model)
    original_devices = devices_of(model)

    copy = placement.copy_model(model)

    assert type(copy) is type(model)
    assert copy.name == model.name
    assert devices_of(copy) == {full(0)}
    assert devices_of(model) == original_devices
    assert [v.name for v in copy.variables] == [v.name for v in model.variables]
    assert_equal(values(copy), before)
    assert len(copy.trainable_variables) == len(model.trainable_variables)
    original = {id(v) for v in model.variables}
    assert not original & {id(v) for v in copy.variables}

    # The same random numbers next; training one leaves the other alone.
    expected = np.array(model(x, training=True))
    after = values(model)
    np.testing.assert_allclose(copy(x, training=True), expected, rtol=1e-6)
    assert_equal(values(model), after)
    for variable in copy.trainable_variables:
        variable.assign_add(tf.ones_like(variable))
    assert_equal(values(model), after)


def test_copy_is_made_on_the_host():
    with tf.device(full(2)):
        model = layers_of_all_kinds()
    assert devices_of(model) == {full(2)}
    assert devices_of(placement.copy_model(model)) == {full(0)}


def test_copy_keeps_what_is_frozen_and_regularized():
    model = layers_of_all_kinds()
    copy = placement.copy_model(model)
    assert [layer.trainable for layer in copy.layers] == [
        True, True, True, False
    ]
    assert copy.get_layer("dense").kernel_regularizer is not None


def test_copy_of_lambda_layer():
    factor = 3.0
    model = keras.Sequential(
        [keras.Input((4,)), keras.layers.Lambda(lambda x: factor * x)]
    )
    copy = placement.copy_model(model)
    np.testing.assert_array_equal(copy(np.ones([2, 4])), np.full([2, 4], 3.0))


def test_copy_of_lambda_layer_in_nested_model():
    inner = keras.Sequential(
        [keras.Input((4,)), keras.layers.Lambda(lambda x: 3.0 * x)]
    )
    model = keras.Sequential([keras.Input((4,)), inner])
    copy = placement.copy_model(model)
    np.testing.assert_array_equal(copy(np.ones([2, 4])), np.full([2, 4], 3.0))


def test_subclassed_model_that_cannot_be_copied():
    model = Unserializable(lambda x: x + 1, name="stubborn")
    model(np.ones([2, 4], "float32"))
    with pytest.raises(ValueError, match="'stubborn'.*get_config.*Received"):
        placement.copy_model(model)


def test_copy_of_a_dropout_that_was_turned_off():
    """Made without dropout, the copy has no random state."""
    model = layers_of_all_kinds()
    model.get_layer("dropout").rate = 0.0
    copy = placement.copy_model(model)
    assert_equal([np.array(v) for v in copy.weights], [
        np.array(v) for v in model.weights
    ])


def test_copy_of_adapted_preprocessing():
    """What layers learn in `adapt` is partly in no variable."""
    normalize = keras.layers.Normalization()
    normalize.adapt(np.random.default_rng(0).normal(3.0, 2.0, (100, 4)))
    model = keras.Sequential([keras.Input((4,)), normalize])
    x = np.ones([2, 4], "float32")
    np.testing.assert_array_equal(placement.copy_model(model)(x), model(x))

    words = keras.layers.StringLookup()
    words.adapt(["a", "b", "b"])
    model = keras.Sequential([keras.Input((1,), dtype="string"), words])
    x = tf.constant([["b"], ["c"], ["a"]])
    np.testing.assert_array_equal(placement.copy_model(model)(x), model(x))


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


# State.


def test_copy_state():
    source, target = layers_of_all_kinds(), layers_of_all_kinds()
    source(np.ones([5, 4]), training=True)
    placement.copy_state(source, target)
    assert_equal(values(target), values(source))


def test_copy_state_between_unlike_layers():
    source = keras.layers.Dense(3, name="source")
    target = keras.layers.Dense(3, use_bias=False, name="target")
    source.build((None, 4))
    target.build((None, 4))
    with pytest.raises(
        ValueError,
        match="'target' must have the 2 weights of layer 'source'.*: 1 weig",
    ):
        placement.copy_state(source, target)
