"""DDG against its plain reference, and what it keeps in memory."""

import itertools
import json
import subprocess
import sys

import keras
import numpy as np
import pytest

import fr_keras
from tests import agreement, peak_memory, reference
from tests.small_net import assert_same, compiled, data, fit, values

layers = keras.layers


def plain_ddg(modules, *args):
    """g_k^t is back-propagation's gradient at w^{t-(K-k)}, all of it."""
    K = len(modules)
    delays = [K - k for k in range(1, K + 1)]
    return reference.delayed_backprop(modules, *args, delays)


def cases():
    for num_modules, net, optimizer, steps in itertools.product(
        [1, 2, 3, 4], [agreement.dense_net, agreement.convolutional_net],
        agreement.OPTIMIZERS, [1, 5],
    ):
        fast = optimizer == "nesterov" and steps == 5 and (
            net is agreement.convolutional_net or num_modules == 3
        )
        yield pytest.param(
            num_modules, net, optimizer, steps,
            marks=[pytest.mark.slow] * (not fast),
        )


@pytest.mark.parametrize("num_modules, net, optimizer, steps", list(cases()))
@pytest.mark.quick_cases("3-dense_net", "4-convolutional_net")
def test_agrees_with_reference(float64, num_modules, net, optimizer, steps):
    agreement.check(
        fr_keras.DDG, plain_ddg, num_modules, net, optimizer, steps
    )


def test_run_eagerly():
    """Tapes are kept instead of activations; the numbers are the same."""
    models = [
        compiled(algorithm=fr_keras.DDG, run_eagerly=run_eagerly)
        for run_eagerly in (False, True)
    ]
    models[1].set_weights(models[0].get_weights())
    for model in models:
        fit(model, epochs=2)
    assert_same(values(models[1]), values(models[0]), rtol=1e-4)


def recurrent_net():
    return keras.Sequential([
        keras.Input((None,), dtype="int32"),
        layers.Embedding(9, 5, mask_zero=True),
        layers.LSTM(4, return_sequences=True, kernel_regularizer="l2"),
        layers.LSTM(4),
        layers.Dense(3),
    ])


def test_what_loops_keep_is_kept():
    """Sequences of changing length; TensorFlow's loops keep lists of tensors.
    """
    network = recurrent_net()
    rng = np.random.default_rng(0)
    batches = [
        (
            rng.integers(0, 9, (4, length)).astype("int32"),
            rng.normal(size=(4, 3)).astype("float32"),
        )
        for length in (5, 3, 7, 7, 4)
    ]
    models = []
    for run_eagerly in (False, True):
        model = fr_keras.DDG(network, 3)
        model.compile(
            keras.optimizers.SGD(0.5), "mse", run_eagerly=run_eagerly
        )
        for x, y in batches:
            model.train_on_batch(x, y)
        models.append(model)
    assert_same(values(models[0]), values(models[1]), rtol=1e-4)


def test_module_rests_until_its_delta_arrives():
    model = compiled(algorithm=fr_keras.DDG)
    for t in range(5):
        fit(model, *data(1))
        updates = [int(o.iterations) for o in model.optimizer.per_module]
        assert updates == [max(0, t - 1), t, t + 1]


@pytest.mark.slow
def test_memory_grows_with_the_number_of_modules():
    """O(L K) activations, where Features Replay needs O(L + K²)."""
    # In a process of its own, without what other tests leave behind.
    output = subprocess.run(
        [sys.executable, "-m", "tests.peak_memory"], check=True, text=True,
        stdout=subprocess.PIPE,
    ).stdout
    megabytes = json.loads(output)
    ddg, replay = megabytes["ddg"], megabytes["features_replay"]
    # Between iterations module k keeps K - k copies of its activations.
    for num_modules, taken in enumerate(ddg, start=1):
        kept = (num_modules - 1) / 2 * peak_memory.ACTIVATIONS
        assert kept < taken < kept + 1.5 * peak_memory.ACTIVATIONS
    assert all(a < b for a, b in zip(ddg, ddg[1:]))
    assert max(replay) < 1.5 * peak_memory.ACTIVATIONS < ddg[-1]
