"""Ways to call a layer, and what is done to one before."""

import keras
import numpy as np

layers = keras.layers


def on_list(layer):
    """Calls a layer with a list of tensors."""
    return lambda *tensors: layer([*tensors])


def on_itself(layer, **kwargs):
    """Calls an attention layer with one tensor for all it takes."""
    return lambda x: layer(x, x, **kwargs)


def with_lora(layer):
    def call(x):
        outputs = layer(x)
        layer.enable_lora(2)
        return outputs

    return call


def frozen(layer):
    layer.trainable = False
    return layer


def adapted(layer, values):
    layer.adapt(np.asarray(values))
    return layer


def encoded(layer):
    """Integers, through an embedding."""
    return lambda *x: layers.Embedding(12, 3)(layer(*x))


def twice(layer):
    return lambda x: layer(layers.Dense(6, activation="tanh")(layer(x)))
