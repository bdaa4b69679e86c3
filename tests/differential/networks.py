"""Small networks around one layer, and their data."""

import keras
import numpy as np
import tensorflow as tf

from tests.differential.harness import EXAMPLES

layers = keras.layers

TOKENS = 9
WORDS = ("red", "green", "blue", "a red car", "the blue sky")
STATEFUL_BATCH = 4
# From the name of a kind of network to the shapes of its inputs. Between input
# and layer there is a trained layer, unless the kind is "raw".
KINDS = {
    "vector": [(6,)],
    "sequence": [(5, 4)],
    "image": [(8, 8, 3)],
    "volume": [(4, 4, 4, 2)],
    "video": [(3, 3, 3, 3, 2)],
    "masked": [(5,)],
    "pair": [(6,), (6,)],
    "sequences": [(5, 4), (3, 4)],
    "masked sequences": [(5,), (3,)],
    "image and vector": [(8, 8, 3), (6,)],
    "stateful": [(5, 4)],
    "stateful image": [(3, 4, 2)],
    "raw vector": [(6,)],
    "raw image": [(8, 8, 3)],
    "raw signal": [(64,)],
    "raw signals": [(64, 1)],
    "raw tokens": [(5,)],
    "raw words": [(1,)],
    "raw crossed": [(1,), (1,)],
}
_INTEGERS = ("masked", "raw tokens", "raw crossed", "masked sequences")


def network(kind, middle):
    """A network with a layer in it.

    Args:
        kind: str, a key of `KINDS`.
        middle: callable on one tensor, or on several, for any nest of tensors.

    Returns:
        Functional `keras.Model` of 3 outputs.
    """
    inputs = [
        keras.Input(
            batch_shape=(
                STATEFUL_BATCH if kind.startswith("stateful") else None, *shape
            ),
            dtype="int32" if kind in _INTEGERS
            else "string" if kind == "raw words" else None,
        )
        for shape in KINDS[kind]
    ]
    tensors = [_front(kind, tensor) for tensor in inputs]
    outputs = _back(middle(*tensors))
    return keras.Model(inputs[0] if len(inputs) == 1 else inputs, outputs)


def _front(kind, x):
    if kind.startswith("raw"):
        return x
    if kind in _INTEGERS:
        return layers.Embedding(TOKENS, 4, mask_zero=True)(x)
    # From 0 to 1, as images are.
    return layers.Dense(x.shape[-1], activation="sigmoid")(x)


def _back(outputs):
    branches = []
    for x in keras.tree.flatten(outputs):
        if not keras.backend.is_float_dtype(x.dtype):
            x = keras.ops.cast(x, keras.config.floatx())
        if len(x.shape) > 2:
            x = layers.Flatten()(x)
        branches.append(layers.Dense(4, activation="tanh")(x))
    x = layers.Add()(branches) if len(branches) > 1 else branches[0]
    x = layers.Dense(5, activation="tanh")(x)
    x = layers.Dense(4, activation="tanh")(x)
    return layers.Dense(3)(x)


def data(kind):
    """x and y for such a network, a dict."""
    rng = np.random.default_rng(0)
    # A batch of another size does not fit a state.
    examples = (
        3 * STATEFUL_BATCH if kind.startswith("stateful") else EXAMPLES
    )

    def array(shape):
        shape = (examples, *shape)
        if kind in _INTEGERS:
            return rng.integers(0, TOKENS, shape).astype("int32")
        if kind == "raw words":
            return tf.constant(rng.choice(np.array(WORDS), shape))
        if kind == "raw image":
            return rng.uniform(size=shape)
        return rng.normal(size=shape)

    x = [array(shape) for shape in KINDS[kind]]
    return {
        "x": x[0] if len(x) == 1 else x,
        "y": rng.normal(size=(examples, 3)),
    }
