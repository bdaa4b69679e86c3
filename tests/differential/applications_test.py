"""One model of every family of keras.applications, by Keras and by us.

In float64: batch normalization of a few examples amplifies rounding, in float32
to differences that hide others.
"""

import gc
import inspect

import keras
import numpy as np
import pytest

from tests import applications
from tests.differential.harness import BATCH, Case, check

# The smallest of each family, by the module that makes it.
FAMILIES = {
    "convnext": "ConvNeXtTiny",
    "densenet": "DenseNet121",
    "efficientnet": "EfficientNetB0",
    "efficientnet_v2": "EfficientNetV2B0",
    "inception_resnet_v2": "InceptionResNetV2",
    "inception_v3": "InceptionV3",
    "mobilenet": "MobileNet",
    "mobilenet_v2": "MobileNetV2",
    "mobilenet_v3": "MobileNetV3Small",
    "nasnet": "NASNetMobile",
    "resnet": "ResNet50",
    "resnet_v2": "ResNet50V2",
    "vgg16": "VGG16",
    "vgg19": "VGG19",
    "xception": "Xception",
}
# Pixels; all others take the smallest that makes sense. With 32, the last
# batch normalizations of ResNets see 4 numbers per channel: Keras itself, with
# images multiplied by 1 + 1e-15, ends 1e-2 away, with 64 it ends 1e-9 away.
LARGER = {"ResNet50": 64, "ResNet50V2": 64}
STEPS = 3


@pytest.fixture(autouse=True)
def memory():
    yield
    keras.utils.clear_session()
    gc.collect()


def family(name):
    function = getattr(keras.applications, name)
    module = inspect.unwrap(function).__module__
    return module.rpartition(".")[2]


def test_every_family_has_a_model(tell):
    families = {family(name) for name in applications.names()}
    assert families == FAMILIES.keys()
    for module, name in FAMILIES.items():
        assert family(name) == module
    tell(f"{len(FAMILIES)} families of {len(applications.names())} models")


def input_size(name):
    return LARGER.get(name, applications.input_size(name))


def fit_arguments(name):
    size = input_size(name)
    rng = np.random.default_rng(0)
    examples = STEPS * BATCH
    return {
        "x": rng.uniform(0, 255, (examples, size, size, 3)),
        "y": rng.integers(applications.CLASSES, size=examples),
    }


def run(model, arguments):
    history = model.fit(
        **arguments, batch_size=BATCH, shuffle=False, verbose=0
    )
    outputs = model(arguments["x"][:BATCH], training=False)
    return {
        "history": history.history,
        "call": keras.ops.convert_to_numpy(outputs),
    }


@pytest.mark.slow
@pytest.mark.parametrize("num_modules", applications.NUM_MODULES)
@pytest.mark.parametrize("name", FAMILIES.values())
def test_is_trained_as_by_keras(name, num_modules):
    check(Case(
        lambda: applications.make(name, input_size(name)),
        fit=lambda: fit_arguments(name),
        compile=lambda: {
            "optimizer": keras.optimizers.SGD(2.0**-10, 0.875),
            "loss": "sparse_categorical_crossentropy",
            "metrics": ["accuracy"],
        },
        run=run,
        num_modules=(num_modules,),
        # Rounding, amplified by up to a hundred normalizations of few
        # examples: 1e-16 becomes 1e-9 at most, a mistake is seen from 1e-6.
        tolerance=1e-7,
    ))
