"""Every callback of Keras that touches training."""

import csv
import warnings

import keras
import numpy as np
import pytest

import fr_keras
from tests.small_net import (
    BATCH,
    STEPS,
    assert_same,
    compiled,
    data,
    differ,
    fit,
    net,
    values,
)

callbacks = keras.callbacks


def test_learning_rate_scheduler():
    model = compiled(
        optimizer=keras.optimizers.SGD(0.1), steps_per_execution=2
    )
    weights = []
    fit(
        model, epochs=3,
        callbacks=[
            callbacks.LearningRateScheduler(
                lambda epoch: [0.1, 0.0, 0.2][epoch]
            ),
            callbacks.LambdaCallback(
                on_epoch_end=lambda epoch, logs: weights.append(
                    [v.numpy() for v in model.trainable_variables]
                )
            ),
        ],
    )
    assert_same(weights[1], weights[0])
    assert all(differ(weights[2], weights[1])[:1])
    assert float(model.optimizer.learning_rate) == pytest.approx(0.2)


def test_reduce_on_plateau():
    model = compiled()
    history = fit(
        model, epochs=4,
        callbacks=[
            callbacks.ReduceLROnPlateau("loss", 0.5, patience=1, min_delta=99)
        ],
    )
    # Logged before it acts at the end of the epoch.
    np.testing.assert_allclose(
        history.history["learning_rate"], [0.1, 0.1, 0.05, 0.025], rtol=1e-6
    )


def test_early_stopping_restores_the_best_weights():
    model = compiled()
    rising = iter(range(10))
    seen = []

    class Spoil(callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            logs["quantity"] = next(rising)
            seen.append(
                [v.numpy() for v in self.model.trainable_variables]
            )

    fit(
        model, epochs=9,
        callbacks=[
            Spoil(),
            callbacks.EarlyStopping(
                "quantity", patience=2, restore_best_weights=True, mode="min"
            ),
        ],
    )
    assert len(seen) == 3
    assert_same([v.numpy() for v in model.trainable_variables], seen[0])


def test_model_checkpoint(tmp_path):
    model = compiled(metrics=["mae"])
    fit(
        model, epochs=2,
        callbacks=[
            callbacks.ModelCheckpoint(tmp_path / "{epoch}.keras"),
            callbacks.ModelCheckpoint(
                tmp_path / "{epoch}.weights.h5", save_weights_only=True
            ),
        ],
    )
    assert_same(
        values(keras.models.load_model(tmp_path / "2.keras")), values(model)
    )
    other = compiled()
    other.load_weights(tmp_path / "2.weights.h5")
    assert_same(values(other), values(model))
    other.load_weights(tmp_path / "1.weights.h5")
    assert any(differ(values(other), values(model)))


def test_backup_and_restore(tmp_path):
    """An interrupted run goes on from its last epoch, optimizer included."""

    class Interrupt(callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                raise KeyboardInterrupt

    network = net()
    model = compiled(network)
    backup = callbacks.BackupAndRestore(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        fit(model, epochs=3, callbacks=[backup, Interrupt()])
    weights = values(model)
    state = [v.numpy() for v in model.optimizer.variables]

    again = compiled(network)
    found = []

    class Look(callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if not found:
                found.extend(values(self.model))
                found.append(epoch)
                found.append(
                    [v.numpy() for v in self.model.optimizer.variables]
                )

    fit(
        again, epochs=3,
        callbacks=[callbacks.BackupAndRestore(tmp_path), Look()],
    )
    assert_same(found[:-2], weights)
    assert found[-2] == 2
    assert_same(found[-1], state)


def test_tensorboard(tmp_path):
    """With everything on that `keras.callbacks.TensorBoard` has."""
    model = compiled()
    fit(
        model, epochs=2, validation_data=data(),
        callbacks=[
            callbacks.TensorBoard(
                tmp_path, histogram_freq=1, write_images=True,
                update_freq="batch", write_steps_per_second=True,
            )
        ],
    )
    assert list((tmp_path / "train").glob("events*"))
    assert list((tmp_path / "validation").glob("events*"))


def test_csv_logger(tmp_path):
    history = fit(
        compiled(), epochs=2, callbacks=[callbacks.CSVLogger(tmp_path / "csv")]
    )
    with open(tmp_path / "csv") as file:
        rows = list(csv.DictReader(file))
    np.testing.assert_allclose(
        [float(row["loss"]) for row in rows], history.history["loss"]
    )


def test_terminate_on_nan():
    x, y = data()
    x[2 * BATCH] = np.nan
    model = compiled()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        history = fit(
            model, x, y, epochs=3, callbacks=[callbacks.TerminateOnNaN()]
        )
    assert len(history.history["loss"]) == 1
    assert int(model.optimizer.iterations) == 3


def test_swap_ema_weights():
    """Evaluation sees the averages, training the weights."""
    model = compiled(
        optimizer=keras.optimizers.SGD(0.1, use_ema=True, ema_momentum=0.5)
    )
    seen = {}

    class Look(callbacks.Callback):
        def on_test_batch_begin(self, batch, logs=None):
            seen["in evaluation"] = [
                v.numpy() for v in model.trainable_variables
            ]

        def on_epoch_begin(self, epoch, logs=None):
            seen["in training"] = [v.numpy() for v in model.trainable_variables]

    averages = []

    class Keep(callbacks.Callback):
        def on_test_begin(self, logs=None):
            averages.extend(
                average.numpy()
                for optimizer in model.optimizer.per_module
                for average in optimizer._model_variables_moving_average
            )

    fit(
        model, validation_data=data(),
        callbacks=[Keep(), callbacks.SwapEMAWeights(), Look()],
    )
    assert_same(seen["in evaluation"], averages, rtol=1e-5)
    assert all(differ(seen["in evaluation"], seen["in training"]))


def test_progress_bar(capsys):
    fit(compiled(metrics=["mae"]), verbose=1)
    out = capsys.readouterr().out
    assert f"{STEPS}/{STEPS}" in out and "mae" in out and "loss" in out


def test_names_of_methods_are_the_users_own():
    class Timed(keras.callbacks.Callback):
        """Has a method whose name `fr_keras` uses too."""

        def before_fit(self):
            raise AssertionError("Nobody but its owner may call it.")

    timed = Timed()
    model = fr_keras.FeaturesReplay(
        [keras.layers.Dense(2), keras.layers.Dense(1)]
    )
    model.compile("sgd", "mse")
    x = np.ones((4, 2), np.float32)
    history = model.fit(x, x[:, :1], callbacks=[timed], verbose=0)
    assert len(history.history["loss"]) == 1
