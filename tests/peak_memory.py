"""The memory that training takes, by the allocator's own counters.

Run as a program, prints JSON: for DDG and Features Replay, the megabytes at
K = 1, 2, 3, 4.
"""

import gc
import json

import keras
import numpy as np
import tensorflow as tf

import fr_keras

LAYERS, WIDTH, BATCH = 48, 32, 2048

# Megabytes: what one forward pass leaves for the backward pass.
ACTIVATIONS = LAYERS * WIDTH * BATCH * 4 / 1e6


def peak(algorithm, num_modules):
    """Megabytes that an iteration of a deep narrow network needs.

    The highest count in an iteration after warm-up, from before the model is
    made; the least of several iterations.
    """
    network = keras.Sequential(
        [keras.Input((WIDTH,))]
        + [keras.layers.Dense(WIDTH, activation="tanh") for _ in range(LAYERS)]
    )
    x = np.zeros([BATCH, WIDTH], "float32")
    gc.collect()
    before = tf.config.experimental.get_memory_info("CPU:0")["current"]
    # All on one device: modules take turns, so that the peak does not depend
    # on which of them meet.
    model = algorithm(network, num_modules, devices=["CPU:0"])
    model.compile("sgd", "mse")
    for _ in range(num_modules + 1):
        model.train_on_batch(x, x)
    peaks = []
    for _ in range(20):
        tf.config.experimental.reset_memory_stats("CPU:0")
        model.train_on_batch(x, x)
        after = tf.config.experimental.get_memory_info("CPU:0")["peak"]
        peaks.append((after - before) / 1e6)
    # An executor that puts off what nobody waits for takes more at times.
    return min(peaks)


if __name__ == "__main__":
    print(json.dumps({
        name: [peak(fr_keras.ALGORITHMS[name], k) for k in (1, 2, 3, 4)]
        for name in ("ddg", "features_replay")
    }))
