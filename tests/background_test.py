"""Checkpoints are written while training goes on, and are of one moment."""

import threading

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import fr_keras
from fr_keras.callbacks.checkpoints import snapshot, store

X = np.random.default_rng(0).normal(size=(96, 8)).astype("float32")
Y = X.sum(axis=1, keepdims=True)


def build():
    keras.utils.set_random_seed(0)
    model = fr_keras.FeaturesReplay(keras.Sequential([
        keras.Input([8]), layers.Dense(4, "tanh"), layers.Dense(4, "tanh"),
        layers.Dense(1),
    ]), num_modules=2)
    model.compile(keras.optimizers.Adam(0.01), "mse")
    return model


class Gate:
    """Holds `Store.write` back until it is opened."""

    def __init__(self, monkeypatch):
        self.opened = threading.Event()
        self.begun = []
        self.ended = []
        write = store.Store.write

        def held(where, of_one_moment):
            self.begun.append(of_one_moment.manifest["position"]["step"])
            assert self.opened.wait(60)
            prefix = write(where, of_one_moment)
            self.ended.append(prefix)
            return prefix

        monkeypatch.setattr(store.Store, "write", held)


def test_training_does_not_wait(tmp_path, monkeypatch):
    """It goes on for 8 iterations, and what is written is of the fourth."""
    gate = Gate(monkeypatch)
    model, weights, seen = build(), [], []

    class See(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            weights.append([v.numpy() for v in model.weights])
            seen.append(list(gate.ended))
            if batch == 11:
                gate.opened.set()

    kept = fr_keras.Checkpoints(
        tmp_path, every_minutes=1e-9, monitor=None, every_epochs=None
    )
    model.fit(
        X, Y, batch_size=8, verbose=0, shuffle=False, callbacks=[See(), kept]
    )
    # The first is held back until the last batch: none is due in between.
    assert gate.begun == [1, 12]
    assert all(ended == [] for ended in seen)
    first, last = (store.Store(tmp_path, 3).prefixes())
    for prefix, expected in ((first, weights[0]), (last, weights[-1])):
        again = build()
        again.build((None, 8))
        fresh = [tf.Variable(tf.zeros_like(v)) for v in expected]
        store.read_variables(prefix, {"network": fresh})
        for a, b in zip(fresh, expected):
            np.testing.assert_array_equal(a, b)
    assert any(
        np.any(a != b) for a, b in zip(weights[0], weights[-1])
    )


def test_counted_ones_are_all_written(tmp_path, monkeypatch):
    """Every fourth iteration: one waits for the one before, none is left out.
    """
    gate = Gate(monkeypatch)
    threading.Timer(0.5, gate.opened.set).start()
    model = build()
    model.fit(X, Y, batch_size=8, verbose=0, callbacks=[
        fr_keras.Checkpoints(tmp_path, every_steps=4, monitor=None, keep=9)
    ])
    assert gate.begun == [4, 8, 12, 12]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_error_waits_for_what_is_written(error, tmp_path, monkeypatch):
    gate = Gate(monkeypatch)
    threading.Timer(0.5, gate.opened.set).start()

    class Fail(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            if batch == 5:
                raise error("ends here")

    with pytest.raises(error, match="ends here"):
        build().fit(X, Y, batch_size=8, verbose=0, callbacks=[
            Fail(), fr_keras.Checkpoints(tmp_path, every_steps=4)
        ])
    assert [p[-6:] for p in store.Store(tmp_path, 3).prefixes()] == ["ckpt-1"]
    assert len(gate.ended) == 1


def test_save_returns_when_it_is_written(tmp_path):
    there = []

    class Ask(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            there.append((kept.save(), store.Store(tmp_path, 9).prefixes()))

    kept = fr_keras.Checkpoints(tmp_path, keep=9, monitor=None)
    build().fit(X, Y, batch_size=32, verbose=0, callbacks=[Ask(), kept])
    assert [(told, len(prefixes)) for told, prefixes in there] == [
        (True, 1), (True, 2), (True, 3)
    ]


def test_a_defect_is_no_full_disk(tmp_path, monkeypatch):
    """What is not of the disk ends training, and is not told as such."""
    def fail(where, of_one_moment):
        raise ValueError("a defect")

    monkeypatch.setattr(store.Store, "write", fail)
    with pytest.raises(ValueError, match="a defect"):
        build().fit(X, Y, verbose=0, callbacks=[fr_keras.Checkpoints(tmp_path)])


@pytest.mark.parametrize("change", [
    lambda v: v.assign_add(tf.ones_like(v)),
    lambda v: v.scatter_nd_update([[1]], tf.ones([1, 3])),
    lambda v: v.scatter_sub(tf.IndexedSlices(tf.ones([1, 3]), [1])),
    lambda v: tf.raw_ops.ResourceApplyGradientDescent(
        var=v.handle, alpha=0.1, delta=tf.ones_like(v)
    ),
    lambda v: tf.raw_ops.ResourceSparseApplyAdagrad(
        var=v.handle, accum=tf.Variable(tf.ones_like(v)).handle, lr=0.1,
        grad=tf.ones([1, 3]), indices=[1],
    ),
], ids=["assign_add", "scatter_nd", "scatter_sub", "descent", "sparse"])
@pytest.mark.parametrize("scattered_before", [False, True])
def test_a_snapshot_stays_as_it_was(change, scattered_before, tmp_path):
    """Whichever operation changes the variable, as queues and optimizers do."""
    variable = tf.Variable(tf.reshape(tf.range(6.0), [2, 3]))
    if scattered_before:  # From then on TensorFlow copies what is read.
        variable.scatter_nd_update([[0]], [[0.0, 1.0, 2.0]])
    of_one_moment = snapshot.Snapshot(
        snapshot.Reader().read({"w": [variable]}), {}
    )
    change(variable)
    assert np.any(variable.numpy() != np.arange(6.0).reshape(2, 3))
    prefix = store.Store(tmp_path, 2).write(of_one_moment)
    fresh = tf.Variable(tf.zeros([2, 3]))
    store.read_variables(prefix, {"w": [fresh]})
    np.testing.assert_array_equal(fresh, np.arange(6.0).reshape(2, 3))
