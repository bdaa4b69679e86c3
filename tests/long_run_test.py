"""Ten thousand iterations take no more memory than one thousand."""

import gc
import os

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import fr_keras


class Watch(keras.callbacks.Callback):
    """Notes what there is after a thousand iterations, and at the end."""

    def __init__(self):
        super().__init__()
        self.noted = []

    def on_epoch_end(self, epoch, logs=None):
        gc.collect()
        with open("/proc/self/statm") as file:
            pages = int(file.read().split()[1])
        self.noted.append({
            "objects": len(gc.get_objects()),
            "tensors": tf.config.experimental.get_memory_info("CPU:0")[
                "current"
            ],
            "resident": pages * os.sysconf("SC_PAGESIZE"),
            "traces": self.model.training.traces,
        })


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["FeaturesReplay", "DDG"])
def test_ten_thousand_iterations(algorithm, tmp_path):
    model = getattr(fr_keras, algorithm)(keras.Sequential([
        keras.Input([8]), layers.Dense(16, "relu"), layers.Dropout(0.1),
        layers.BatchNormalization(), layers.Dense(16, "relu"),
        layers.Dense(4),
    ]), 3)
    model.compile(
        "adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"], steps_per_execution=8,
    )
    chance = np.random.default_rng(0)
    x = chance.normal(size=(4000, 8)).astype("float32")
    y = chance.integers(0, 4, 4000)
    watch = Watch()
    model.fit(
        x, y, batch_size=4, epochs=10, verbose=0, callbacks=[
            fr_keras.OnNaN(),
            fr_keras.diagnostics.GradientNorm(),
            fr_keras.diagnostics.Throughput(4000),
            fr_keras.Checkpoints(tmp_path, every_steps=500, keep=2),
            watch,
        ],
    )
    assert int(model.optimizer.iterations) == 10_000
    early, late = watch.noted[1], watch.noted[-1]
    # Of warm-up, and of all that came after it.
    assert early["traces"] == late["traces"] == 2
    assert late["objects"] < 1.01 * early["objects"] + 500
    assert late["tensors"] < early["tensors"] + 10_000
    assert late["resident"] < early["resident"] + 50 * 2**20
    assert len(list(tmp_path.glob("ckpt-*.index"))) == 2
