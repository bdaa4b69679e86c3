"""Small models to be cut, and how to look at the modules."""

import keras
import numpy as np


def chain(widths, name="chain"):
    """Dense layers `d1`, `d2`, ... of the given widths, from 4 inputs."""
    return keras.Sequential(
        [keras.Input((4,))]
        + [
            keras.layers.Dense(width, activation="tanh", name=f"d{i}")
            for i, width in enumerate(widths, start=1)
        ],
        name=name,
    )


def residual(num_blocks=3):
    """Blocks of two layers with a skip, each followed by one layer."""
    inputs = keras.Input((4,))
    x = keras.layers.Dense(6, name="stem")(inputs)
    for b in range(1, num_blocks + 1):
        inner = keras.layers.Dense(6, activation="tanh", name=f"b{b}_in")(x)
        inner = keras.layers.Dense(6, name=f"b{b}_out")(inner)
        x = keras.layers.Add(name=f"b{b}_add")([x, inner])
        x = keras.layers.ReLU(name=f"b{b}_relu")(x)
    return keras.Model(inputs, x, name="residual")


def with_operations():
    """Skips, and operations that are no layers."""
    inputs = keras.Input((4,))
    x = keras.layers.Dense(6)(inputs)
    y = keras.ops.tanh(x) * 2.0
    x = keras.layers.Dense(6)(keras.ops.concatenate([x, y], axis=-1))
    x = keras.layers.Add()([x, x])
    return keras.Model(inputs, keras.layers.Dense(2)(x))


def nested():
    """A model in which other models are layers."""
    return keras.Sequential(
        [
            keras.Input((4,)),
            chain([5, 4], "one"),
            residual(1),
            keras.layers.Dense(3),
        ]
    )


def called_once():
    model = keras.Sequential(
        [keras.layers.Dense(5, activation="tanh") for _ in range(6)]
    )
    model(np.ones([2, 4], "float32"))
    return model


def names(module):
    """Names of a module's layers but the input, in order of execution."""
    return [
        layer.name for layer in module.layers
        if not isinstance(layer, keras.layers.InputLayer)
    ]


def flat_names(model):
    """The same, those of nested models one by one."""
    found = []
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            found += flat_names(layer)
        elif not isinstance(layer, keras.layers.InputLayer):
            found.append(layer.name)
    return found


def run(modules, x):
    for module in modules:
        x = module(x, training=False)
    return np.array(x)
