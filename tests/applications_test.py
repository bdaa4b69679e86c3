"""Every model of keras.applications is cut and trained."""

import gc

import keras
import numpy as np
import pytest

import fr_keras
from tests import applications

# Of two examples with 1x1 pixels, batch normalization makes noise: in the deep
# EfficientNets gradients overflow, in stock Keras too.
BATCH = 8
FAST = ("MobileNet", "MobileNetV3Small")


@pytest.fixture(autouse=True)
def memory():
    """Frees a test's models, of which some take gigabytes."""
    yield
    keras.utils.clear_session()
    gc.collect()


@pytest.mark.parametrize("num_modules", applications.NUM_MODULES)
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in FAST else pytest.mark.slow)
        for name in applications.names()
    ],
)
@pytest.mark.quick_cases("MobileNetV3Small-4")
def test_is_cut_and_trained(name, num_modules):
    network = applications.make(name)
    # Training begins with K - 1 iterations of warm-up: in as many as there
    # are modules, every module is updated.
    rng = np.random.default_rng(0)
    x = rng.normal(size=(num_modules * BATCH, *network.input_shape[1:]))
    x = x.astype("float32")
    y = rng.integers(applications.CLASSES, size=len(x))

    check_cut(network, num_modules, x)
    model = fr_keras.FeaturesReplay(network, num_modules)
    del network
    check_training(model, x, y)


def check_cut(network, num_modules, x):
    outputs = x
    for module in fr_keras.partition(network, num_modules):
        outputs = module(outputs, training=False)
    np.testing.assert_array_equal(outputs, network(x, training=False))


def check_training(model, x, y):
    firsts = [module.trainable_variables[0] for module in model.modules]
    before = [variable.numpy() for variable in firsts]
    model.compile(
        keras.optimizers.SGD(2.0**-7, global_clipnorm=1.0),
        "sparse_categorical_crossentropy",
        steps_per_execution=model.num_modules,
    )
    history = model.fit(x, y, batch_size=BATCH, verbose=0)

    assert np.isfinite(history.history["loss"][0])
    for variable, value in zip(firsts, before):
        assert (variable.numpy() != value).any()
