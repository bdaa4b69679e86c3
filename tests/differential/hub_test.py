"""KerasHub's models are split, and trained as Keras trains them."""

import gc
import os
import re
import subprocess
import sys

import keras
import numpy as np
import pytest

import fr_keras

pytest.importorskip(
    "keras_hub", reason="KerasHub is not installed: pip install -e '.[hub]'"
)

from tests import hub

# Batch normalization makes noise of two examples. And no other dimension may
# have the size of the batch: Keras 3.15 adds an array of shape (n, 1) to one of
# shape (n, n) as if it were of shape (n,), if it knows n.
BATCH = 5
FAST = ("GPT2CausalLM", "VGGImageClassifier")
NUM_MODULES = 4

# Whether this process has TensorFlow without oneDNN.
VARIABLE, VALUE = "TF_ENABLE_ONEDNN_OPTS", "0"
IS_WITHOUT_ONEDNN = os.environ.get(VARIABLE) == VALUE


def _marks(name):
    if name in FAST:
        return []
    if name in hub.WITHOUT_ONEDNN and not IS_WITHOUT_ONEDNN:
        return [
            pytest.mark.slow,
            pytest.mark.skip(reason="in test_without_onednn"),
        ]
    return [pytest.mark.slow]


# What is not refused, the quick ones first.
TRAINED = [
    pytest.param(name, marks=_marks(name))
    for name in hub.names()
    if name not in hub.REFUSED and name not in hub.LIMITED
]


@pytest.fixture(autouse=True)
def memory():
    """Frees a test's models, which are full of cycles."""
    yield
    keras.utils.clear_session()
    gc.collect()


def test_every_model_is_in_the_zoo():
    in_zoo = {name.split(",")[0] for name in hub.names()}
    left_out = set(hub.exported()) - in_zoo
    print(f"{len(hub.names())} models; left out: {hub.LEFT_OUT}")
    assert left_out == set(hub.LEFT_OUT), (
        "KerasHub exports these, and tests/hub.py neither makes them nor says "
        "why not"
    )


@pytest.mark.parametrize("num_modules", [2, NUM_MODULES])
@pytest.mark.parametrize("name", TRAINED)
def test_modules_are_the_model(name, num_modules):
    model = hub.make(name)
    x, _, _ = hub.data(name, model, BATCH)
    expected = model(x, training=False)

    outputs = x
    for module in fr_keras.partition(model, num_modules):
        outputs = module(outputs, training=False)

    keras.tree.assert_same_structure(outputs, expected)
    for output, other in zip(
        keras.tree.flatten(outputs), keras.tree.flatten(expected)
    ):
        np.testing.assert_array_equal(output, other)


@pytest.mark.parametrize("name", TRAINED)
def test_backprop_is_keras(name, request):
    if name.startswith(hub.NOISY):
        request.getfixturevalue("float64")
    reference = hub.make(name)
    num_steps = 1 if name in hub.CHAOTIC else 3
    x, y, loss = hub.data(name, reference, num_steps * BATCH)
    before = [variable.numpy() for variable in reference.weights]
    # In a graph, like ours: eagerly, some come out otherwise.
    losses = fit(reference, x, y, loss)

    model = fr_keras.Backprop(hub.make(name), NUM_MODULES)
    np.testing.assert_allclose(fit(model, x, y, loss), losses, rtol=1e-5)

    trained = model.to_keras()
    for output, other in zip(
        keras.tree.flatten(trained(x, training=False)),
        keras.tree.flatten(reference(x, training=False)),
    ):
        np.testing.assert_allclose(output, other, rtol=1e-5, atol=1e-5)
    check_weights(trained, reference, before)


@pytest.mark.parametrize("name", TRAINED)
def test_features_replay_trains(name):
    network = hub.make(name)
    x, y, loss = hub.data(name, network, (NUM_MODULES + 1) * BATCH)
    model = fr_keras.FeaturesReplay(network, NUM_MODULES)
    del network
    before = [weights(module) for module in model.modules]

    losses = fit(model, x, y, loss, steps_per_execution=NUM_MODULES + 1)

    assert np.isfinite(losses).all()
    for module, values in zip(model.modules, before):
        assert any(
            (value != other).any()
            for value, other in zip(weights(module), values)
        ), module.name


@pytest.mark.slow
@pytest.mark.parametrize("name", hub.WITHOUT_ONEDNN)
def test_without_onednn(name):
    """All of the above, in a process of its own."""
    done = subprocess.run(
        [
            sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider",
            __file__, "-m", "slow",
            "-k", f"([{name}] or [{name}-) and not without_onednn",
        ],
        env={**os.environ, VARIABLE: VALUE}, capture_output=True, text=True,
    )
    assert done.returncode == 0, done.stdout
    # (Split in two ways, and trained by two methods.)
    assert re.search(r"^4 passed, \d+ deselected", done.stdout, re.M)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) for name in hub.REFUSED]
)
def test_what_would_train_otherwise_is_refused(name):
    with pytest.raises(ValueError, match=hub.REFUSED[name]):
        fr_keras.FeaturesReplay(hub.make(name), NUM_MODULES)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) for name in hub.LIMITED]
)
def test_what_is_mostly_one_layer_has_fewer_modules(name):
    model = hub.make(name)
    assert hub.largest_split(model) == hub.LIMITED[name]
    x, _, _ = hub.data(name, model, BATCH)
    expected = model(x, training=False)
    for module in fr_keras.partition(model, hub.LIMITED[name]):
        x = module(x, training=False)
    np.testing.assert_array_equal(x, expected)


def fit(model, x, y, loss, **kwargs):
    """Trains a model for one epoch, and returns its loss."""
    model.compile(
        keras.optimizers.SGD(0.01), loss, jit_compile=False, **kwargs
    )
    history = model.fit(x, y, batch_size=BATCH, shuffle=False, verbose=0)
    return history.history["loss"]


def weights(layer):
    return [variable.numpy() for variable in layer.trainable_variables]


def check_weights(model, reference, before):
    """Every weight of one is a weight of the other, in whatever order.

    What moved little must agree the better, so that no update is missing.
    """
    left = [variable.numpy() for variable in model.weights]
    for variable, value_before in zip(reference.weights, before):
        value = variable.numpy()
        distances = [
            np.abs(value - other).max(initial=0.0)
            if value.shape == other.shape else np.inf
            for other in left
        ]
        nearest = int(np.argmin(distances))
        update = np.abs(value - value_before).max(initial=0.0)
        scale = np.abs(value).max(initial=1.0)
        tolerance = min(1e-5 * scale, 0.01 * update + 1e-6 * scale)
        assert distances[nearest] <= tolerance, variable.path
        del left[nearest]
    assert not left
