"""Models with layers of all kinds, and what can be seen of them."""

import keras
import numpy as np


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
