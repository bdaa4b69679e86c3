"""Every layer of Keras with options that matter, each in a small network.

A row of `LAYERS` is the name of a class, and for it a dict from the name of an
option to `(kind, make)`: a kind of network (`networks.KINDS`), and a function
that makes what is called there. To add an option, add a row; random layers need
a seed. A class without a row, as of a later version of Keras, is tried in every
kind of network that it may fit; where it fits none, the test asks for a row, or
for a reason in `LEFT_OUT`.
"""

import inspect

import keras

from tests.differential import networks
from tests.differential.harness import Case, fit_and_call
from tests.differential.layer_cases import (
    attention,
    convolutions,
    core,
    images,
    normalization,
    preparation,
    recurrent,
    shapes,
)

layers = keras.layers
LEFT_OUT = {
    "Layer": "the base class: it has no `call`",
    "Wrapper": "the base class of wrappers: it has no `call`",
    "InputLayer": "the input of every network here",
    "MaxNumBoundingBoxes": "changes labels of images, in data, not in a model",
    "AugMix": "chooses by Python's `random`, whenever it is traced, what it "
    "does from then on: another number of traces is another layer",
    "FlaxLayer": "needs JAX",
    "JaxLayer": "needs JAX",
    "TorchModuleWrapper": "needs PyTorch as Keras' backend",
}
OPTIONS_LEFT_OUT = {
    "quantize('int8'), quantization_config": "quantized kernels have no "
    "gradient; Keras trains no such layer but by `enable_lora`",
    "TextVectorization(ragged=True)": "Keras' own layers take no ragged tensor",
    "data_format='channels_first'": "TensorFlow has no such kernels on a CPU",
    "flash_attention=True": "not with the TensorFlow backend",
    "BatchNormalization(synchronized=True) over replicas": "needs a strategy, "
    "which the library refuses; without one it is tested",
}
# These compute nothing in float64, by TensorFlow's kernels or Keras' constants.
_FLOAT32 = {
    "AdaptiveAveragePooling3D", "AdaptiveMaxPooling3D", "AveragePooling3D",
    "MaxPooling3D", "MelSpectrogram", "RandAugment",
    "RandomRotation", "TFSMLayer",
}
LAYERS = {
    **core.ROWS,
    **convolutions.ROWS,
    **shapes.ROWS,
    **normalization.ROWS,
    **recurrent.ROWS,
    **attention.ROWS,
    **preparation.ROWS,
    **images.ROWS,
}


def classes():
    """All layers of `keras.layers`, each once: a dict from name to class."""
    found = [getattr(layers, name) for name in dir(layers)]
    return {
        found_class.__name__: found_class
        for found_class in found
        if inspect.isclass(found_class)
        and issubclass(found_class, keras.layers.Layer)
    }


def case(name, option, **settings):
    """The `Case` of a row."""
    kind, make = LAYERS[name][option]
    if name in _FLOAT32 or option == "orthogonal regularizer":
        settings = {"floatx": "float32", **settings}
    if name == "TFSMLayer":
        # Momentum cannot be called what the variables of a file are called.
        settings = {"compile": plain_descent, **settings}
    if name == "RandomCrop":
        # For inference, Keras crops symbols but not tensors.
        settings = {"run": fit_only, **settings}
    return of_kind(kind, make, **settings)


def fit_only(model, arguments):
    return fit_and_call(model, arguments, call=False)


def plain_descent():
    return {"optimizer": keras.optimizers.SGD(0.05), "loss": "mse"}


def of_kind(kind, make, **settings):
    """The `Case` of a layer in a kind of network."""
    return Case(
        lambda: networks.network(kind, make()),
        **{
            "fit": lambda: networks.data(kind), "run": fit_and_call, **settings
        },
    )


layers = keras.layers
