"""Modules on other machines: workers of TensorFlow's runtime on loopback."""

import os
import subprocess
import sys

import pytest

import fr_keras
from tests.command_line import ROOT
from tests.local_workers import start_worker, workers

TRAINING = """
import sys
import keras
import numpy as np
import tensorflow as tf
from keras import layers

import fr_keras
import fr_keras.cluster

tf.config.threading.set_intra_op_parallelism_threads(1)
fr_keras.cluster.connect(sys.argv[2:])
WORKERS = None  # The default.

# A function on both workers sees what was assigned before it was called.
with tf.device("/job:worker/task:0"):
    near = tf.Variable(0.0)
with tf.device("/job:worker/task:1"):
    far = tf.Variable(tf.zeros([1000, 1000]))


@tf.function
def read():
    with tf.device(near.device):
        number = near + 0.0
    with tf.device(far.device):
        return number, far[3, 3]


for i in range(200):
    near.assign(i)
    with tf.device(far.device):
        far.assign(tf.fill([1000, 1000], float(i)))
    assert [*map(float, read())] == [i, i]

chance = np.random.default_rng(0)
x = chance.normal(size=(150, 8)).astype("float32")
y = chance.integers(0, 4, 150)


class Stop(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        if epoch == 1:
            raise KeyboardInterrupt


def train(num_modules, devices, *callbacks, replicas=1):
    keras.utils.set_random_seed(7)
    model = fr_keras.FeaturesReplay(keras.Sequential([
        keras.Input([8]), layers.Dense(16, "relu"),
        layers.BatchNormalization(), layers.Dropout(0.3),
        layers.Dense(16, "relu"), layers.Dense(16, "relu"), layers.Dense(4),
    ]), num_modules, devices, replicas=replicas)
    model.compile(
        keras.optimizers.Adam(0.01),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"], steps_per_execution=4,
    )
    try:
        model.fit(
            x, y, batch_size=10, epochs=3, verbose=0,
            validation_data=(x[:30], y[:30]),
            callbacks=[fr_keras.OnNaN(), *callbacks],
        )
    except KeyboardInterrupt:
        pass
    return model


def assert_equal(one, other):
    for a, b in zip(one.weights, other.weights, strict=True):
        np.testing.assert_array_equal(a, b)


for num_modules in (2, 4):
    there, here = (
        train(num_modules, devices) for devices in (WORKERS, ["CPU:0"])
    )
    assert len({*there.devices}) == 2
    for module, device in zip(there.modules, there.devices):
        assert "/job:worker/" in device
        for variable in module.variables:
            assert variable.value.device == device
    assert_equal(there, here)

copies, copies_here = (
    train(1, devices, replicas=2) for devices in (WORKERS, ["CPU:0"])
)
assert len({pipeline.devices[0] for pipeline in copies.pipelines}) == 2
assert_equal(copies, copies_here)

folder = sys.argv[1]
train(4, WORKERS, fr_keras.Checkpoints(folder, every_steps=4), Stop())
kept = fr_keras.Checkpoints(folder)
went_on = train(4, WORKERS, kept)
assert kept.restored
assert_equal(went_on, here)
"""


def test_same_numbers_on_workers(tmp_path):
    """K=2, K=4 and replicas, bit for bit; also from a checkpoint."""
    with workers(2) as addresses:
        done = subprocess.run(
            [sys.executable, "-c", TRAINING, tmp_path / "kept", *addresses],
            cwd=ROOT, capture_output=True, text=True, timeout=300, check=False,
        )
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "kept").glob("ckpt-*.index"))


EVERYTHING = """
import sys
import keras
import numpy as np
from keras import layers

import fr_keras
import fr_keras.cluster
from fr_keras import diagnostics

fr_keras.cluster.connect(sys.argv[2:])
folder = sys.argv[1]
chance = np.random.default_rng(0)
x = chance.normal(size=(64, 8)).astype("float32")
y = chance.integers(0, 4, 64)
for name, algorithm in fr_keras.ALGORITHMS.items():
    keras.utils.set_random_seed(0)
    model = algorithm(keras.Sequential([
        keras.Input([8]), *(layers.Dense(16, "relu") for _ in range(4)),
        layers.Dropout(0.1), layers.BatchNormalization(), layers.Dense(4),
    ]), 3)
    model.compile(
        keras.optimizers.Adam(0.01),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"], steps_per_execution=2,
    )
    probes = [] if model.delays is None else [
        diagnostics.SufficientDirection(every=4),
        diagnostics.DeltaResidual(every=4), diagnostics.FeatureDrift(every=4),
        diagnostics.ConvergenceBound([(x, y)], every=4),
    ]
    history = model.fit(
        x, y, batch_size=8, epochs=2, verbose=0, validation_data=(x, y),
        callbacks=[
            fr_keras.OnNaN(), fr_keras.Checkpoints(f"{folder}/{name}_kept"),
            diagnostics.GradientNorm(), diagnostics.UpdateRatio(),
            diagnostics.ReplayQueues(), diagnostics.Throughput(64), *probes,
            keras.callbacks.TensorBoard(f"{folder}/{name}_logs", 1),
            keras.callbacks.ModelCheckpoint(f"{folder}/{name}_best.keras"),
            keras.callbacks.ReduceLROnPlateau(),
            keras.callbacks.EarlyStopping(restore_best_weights=True),
        ],
    ).history
    assert np.isfinite(history["loss"] + history["val_loss"]).all()
    model.evaluate(x, y, verbose=0)
    predicted = model.predict(x, verbose=0)
    for again in (
        model.to_keras(),
        keras.models.load_model(f"{folder}/{name}_best.keras"),
    ):
        again.predict(x, verbose=0)
    np.testing.assert_allclose(
        predicted, model.to_keras().predict(x, verbose=0), atol=1e-5
    )
    model.export(f"{folder}/{name}_served", verbose=False)
    model.set_weights(model.get_weights())
    model.summary(print_fn=lambda line: None)
    print(name, flush=True)
"""


@pytest.mark.slow
def test_everything_works_there(tmp_path):
    """What works on one machine, for all algorithms, K=3 on two workers."""
    with workers(2) as addresses:
        done = subprocess.run(
            [sys.executable, "-c", EVERYTHING, tmp_path, *addresses],
            cwd=ROOT, capture_output=True, text=True, timeout=600, check=False,
        )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == list(fr_keras.ALGORITHMS)


HOLDING = """
import os
import sys
import tensorflow as tf
import fr_keras.cluster

fr_keras.cluster.connect(sys.argv[1:])
with tf.device("/job:worker/task:0"):
    held = tf.Variable(tf.ones([100, 2**20]))
    assert float(held[7, 7]) == 1.0
fr_keras.cluster.release(sys.argv[1:])
os._exit(0)  # As after the loss of a worker.
"""


@pytest.mark.slow
def test_worker_gives_memory_back():
    """400 MB each time; what is given back is used again."""
    process, address = start_worker()
    try:
        resident = []
        for _ in range(3):
            subprocess.run(
                [sys.executable, "-c", HOLDING, address], cwd=ROOT, check=True
            )
            with open(f"/proc/{process.pid}/statm") as file:
                pages = int(file.read().split()[1])
            resident.append(pages * os.sysconf("SC_PAGESIZE"))
    finally:
        process.kill()
        process.communicate()
    assert resident[0] > 400 * 2**20  # It was really there.
    assert resident[2] < resident[0] + 200 * 2**20
