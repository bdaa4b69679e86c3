"""When checkpoints are written, and which of them are kept."""

import types

import keras
import numpy as np
import tensorflow as tf

import fr_keras
from fr_keras.callbacks.checkpoints import store
from tests.killed_trainings import DATA, build, killed_and_continued, shuffled


def test_steps_are_mini_batches(tmp_path):
    """Also where a step of the optimizer takes several of them."""
    model = build(steps=1, optimizer=lambda: keras.optimizers.SGD(
        0.1, gradient_accumulation_steps=3
    ))
    model.fit(shuffled(), verbose=0, callbacks=[fr_keras.Checkpoints(
        tmp_path, every_steps=4, every_epochs=None, monitor=None, keep=9
    )])
    assert [
        store.read_manifest(prefix)["position"]["step"]
        for prefix in store.Store(tmp_path, 2).prefixes()
    ] == [4, 8, 12, 15]


def test_keeps_the_newest_and_the_best(tmp_path):
    values = iter([3.0, 1.0, 2.0, 1.5])
    killed_and_continued(
        tmp_path, build, DATA["dataset"], [], keep=2, monitor="quality",
        callbacks=lambda: [keras.callbacks.LambdaCallback(
            on_epoch_end=lambda epoch, logs: logs.update(quality=next(values))
        )],
    )
    newest = [store.read_manifest(p) for p in store.Store(
        tmp_path, 2
    ).prefixes()]
    assert [m["position"]["epoch"] for m in newest] == [3, 4]
    (best,) = store.Store(tmp_path / "best", 1).prefixes()
    assert store.read_manifest(best)["position"]["epoch"] == 2
    assert store.read_manifest(best)["best"] == 1.0


def test_best_that_could_not_be_written_is_not_the_best(tmp_path, monkeypatch):
    write, failed = store.Store.write, []

    def fail(self, *args):
        if self.directory.endswith("best") and len(failed) < 2:
            failed.append(True)
            raise OSError("no space left")
        return write(self, *args)

    monkeypatch.setattr(store.Store, "write", fail)
    values = iter([3.0, 1.0, 2.0, 2.5])
    killed_and_continued(
        tmp_path, build, DATA["dataset"], [], monitor="quality",
        callbacks=lambda: [keras.callbacks.LambdaCallback(
            on_epoch_end=lambda epoch, logs: logs.update(quality=next(values))
        )],
    )
    (best,) = store.Store(tmp_path / "best", 1).prefixes()
    assert store.read_manifest(best)["best"] == 2.0


def test_weights_that_are_not_finite_are_not_kept(tmp_path, caplog):
    """Nor are they the best, whatever the monitored value says."""
    class Spoil(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            logs["quality"] = 3.0 - epoch
            if epoch == 1:
                bias = self.model.modules[1].weights[-1]
                bias.assign(bias * np.nan)

    model = build("Backprop")
    kept = fr_keras.Checkpoints(tmp_path, monitor="quality")
    model.fit(
        shuffled(), epochs=4, verbose=0, callbacks=[Spoil(), kept]
    )
    assert kept.best == 3.0
    for folder in (tmp_path, tmp_path / "best"):
        (prefix,) = store.Store(folder, 2).prefixes()
        assert store.read_manifest(prefix)["position"]["epoch"] == 1
    assert caplog.text.count("No checkpoint is written") == 1
    assert "of module 2 is not finite" in caplog.text


def test_an_epoch_that_was_skipped_is_not_the_best(tmp_path):
    class Spoil(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            bad.assign(epochs[-1] == 1)

        def on_epoch_begin(self, epoch, logs=None):
            epochs.append(epoch)

    bad, epochs = tf.Variable(False), []
    model = build("Backprop")
    model.compile("sgd", lambda y, y_pred: tf.where(
        bad.read_value(), np.nan, tf.reduce_mean(tf.square(y_pred), axis=-1)
    ))
    kept = fr_keras.Checkpoints(tmp_path, monitor="loss")
    history = model.fit(
        shuffled(), epochs=3, verbose=0,
        callbacks=[Spoil(), fr_keras.OnNaN("skip"), kept],
    ).history
    assert np.isnan(history["loss"]).tolist() == [False, True, False]
    assert kept.best == history["loss"][2]


def test_checkpoints_by_time(tmp_path, monkeypatch):
    now = iter(range(0, 10_000, 30))
    monkeypatch.setattr(
        "fr_keras.callbacks.checkpoints.intervals.time",
        types.SimpleNamespace(monotonic=lambda: next(now)),
    )
    model = build()
    kept = fr_keras.Checkpoints(
        tmp_path, every_minutes=1.0, every_epochs=None, monitor=None, keep=100
    )
    model.fit(shuffled(), epochs=2, verbose=0, callbacks=[
        kept, keras.callbacks.LambdaCallback(
            on_train_batch_begin=lambda *_, **__: kept.after_fit()
        ),
    ])
    # The time is looked at after each of 8 calls, 30 s apart by this clock; and
    # there is one when training ends.
    steps = [
        store.read_manifest(prefix)["position"]["step"]
        for prefix in store.Store(tmp_path, 2).prefixes()
    ]
    assert steps == [8, 15, 23, 30, 30]
