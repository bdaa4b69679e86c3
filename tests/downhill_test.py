"""Whether steps go downhill: against snapshots, and where σ tells nothing."""

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

import fr_keras
from fr_keras.callbacks.diagnostics import DownhillSteps, SufficientDirection
from tests.agreement import BATCH, data, dense_net, loss
from trainers.studies.tasks import TASKS


class Snapshots(keras.callbacks.Callback):
    """⟨∇f, Δ⟩ of module 1 after each batch, by its weights before and after.

    Args:
        batches: list of `(x, y)`.
    """

    def __init__(self, batches):
        super().__init__()
        self._batches = batches
        self.found = []

    def on_train_begin(self, logs=None):
        self._before = self._weights()

    def _weights(self):
        return [v.numpy() for v in self.model.modules[0].trainable_variables]

    def on_train_batch_end(self, batch, logs=None):
        x, y = self._batches[batch]  # Which module 1 has not learned yet.
        now = self._weights()
        weights = self.model.modules[0].trainable_variables
        with tf.GradientTape() as tape:
            h = tf.constant(x)
            for module in self.model.modules:
                h = module(h, training=True)
            objective = loss()(y, h)
        true = tape.gradient(objective, [v.value for v in weights])
        self.found.append(sum(
            np.sum(g * (b - a))
            for g, a, b in zip(true, self._before, now)
        ))
        self._before = now


@pytest.mark.parametrize("prediction", [False, True])
@pytest.mark.parametrize("optimizer", [
    lambda: keras.optimizers.SGD(0.03125, momentum=0.875),
    lambda: keras.optimizers.Adam(0.03125),
])
def test_share(float64, prediction, optimizer):
    net = dense_net()
    x, y = (a[:6 * BATCH] for a in data(net))
    model = fr_keras.FeaturesReplay(net, 2, weight_prediction=prediction)
    model.compile(optimizer(), loss())
    downhill = DownhillSteps(every=1, window=4)
    snapshots = Snapshots(
        [(x[i:i + BATCH], y[i:i + BATCH]) for i in range(0, len(x), BATCH)]
    )
    history = model.fit(
        x, y, batch_size=BATCH, shuffle=False, verbose=0,
        callbacks=[downhill, snapshots],
    )
    # Before its first update, in the second iteration, there is no step.
    assert snapshots.found[0] == 0
    share = np.mean([found < 0 for found in snapshots.found[1:][-4:]])
    assert history.history["downhill/module_1"] == [share]
    assert 0 < share  # Or the test would prove little.
    assert np.isnan(history.history["downhill/module_2"])


def test_an_optimizer_that_does_not_tell():
    net = dense_net()
    model = fr_keras.FeaturesReplay(net, 2)
    model.compile("rmsprop", loss())
    history = model.fit(*data(net), callbacks=[DownhillSteps(1)], verbose=0)
    assert np.isnan(history.history["downhill/module_1"])


def first_epoch(data_dir, **options):
    """An epoch of a residual network without normalization, under Adam."""
    task = TASKS["signals"]
    x, y = task.data(data_dir).train
    keras.utils.set_random_seed(0)
    model = fr_keras.FeaturesReplay(task.make(), 4, **options)
    model.compile(keras.optimizers.Adam(0.008), loss())
    history = model.fit(
        x, y, batch_size=task.batch_size, verbose=0, shuffle=False,
        callbacks=[DownhillSteps(every=1), SufficientDirection(every=1)],
    )
    return {name: values[0] for name, values in history.history.items()}


@pytest.mark.slow
def test_the_failure_is_told_in_the_first_epoch(tmp_path):
    """Gradients look well, by σ, while the first module oscillates."""
    with pytest.warns(UserWarning, match="Module 1 oscill.* 3 iterations late"):
        paper = first_epoch(tmp_path, weight_prediction=False)
    assert paper["sigma/module_1"] > 0.5
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "Module . oscillates")
        default = first_epoch(tmp_path)
    assert default["downhill/module_1"] > 0.5 > paper["downhill/module_1"]


def test_bad_window():
    with pytest.raises(ValueError, match="`window` must.*Received: window=0"):
        DownhillSteps(window=0)
