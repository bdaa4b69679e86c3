"""The flags that describe a network."""

import json
import re

from absl import flags

import fr_keras

FLAGS = flags.FLAGS

# A function of the user. (Versions of datasets, as in cifar10:3.0.2, are none.)
FUNCTION = r"[\w.]+:[A-Za-z_]\w*"

flags.DEFINE_string(
    "model", "resnet",
    "The network: resnet, transformer, applications.NAME for a model of "
    "keras.applications, keras_hub.NAME for one of KerasHub, a file "
    "(path/to/model.keras), or package.module:function for a function of yours "
    "that returns a Keras model.",
)
flags.DEFINE_string(
    "model_args", "",
    "Further arguments of what --model names, a JSON object, for example "
    "'{\"alpha\": 0.5}'.",
)
flags.DEFINE_integer(
    "depth", 20,
    "Layers of a resnet, one of "
    f"{', '.join(map(str, fr_keras.models.RESNET_DEPTHS))}, or blocks of a "
    "transformer.",
    lower_bound=1, upper_bound=10_000,
)
flags.DEFINE_float(
    "dropout", 0.0,
    "Rate of dropout before the last convolution of each block of a resnet.",
)
flags.DEFINE_enum(
    "dtype_policy", "float32", ["float32", "mixed_bfloat16", "mixed_float16"],
    "Keras' policy for the data types of the network.",
)


def arguments(text):
    """The arguments in `--model_args`, a dict.

    Args:
        text: str, a JSON object, or empty.

    Raises:
        ValueError: if it is something else.
    """
    found = json.loads(text or "{}")
    if not isinstance(found, dict):
        raise ValueError(f"Expected a JSON object. Received: {text}")
    return found


def _are_arguments(text):
    try:
        arguments(text)
    except ValueError:
        return False
    return True


# absl puts the flag and its value before the message. Comparisons with nan are
# false, so these validators refuse it.
flags.register_validator(
    "model_args", _are_arguments,
    "must be a JSON object, like '{\"alpha\": 0.5}'",
)
flags.register_validator(
    "dropout",
    lambda rate: 0 <= rate < 1,
    "must be at least 0 and less than 1",
)
flags.register_validator(
    "depth",
    lambda depth: FLAGS["model"].value != "resnet"
    or depth in fr_keras.models.RESNET_DEPTHS,
    f"of a resnet must be one of {fr_keras.models.RESNET_DEPTHS}",
)
flags.register_validator(
    "model",
    lambda name: re.fullmatch(
        r"resnet|transformer|(applications|keras_hub)\.\w+|.+\.keras|"
        + FUNCTION, name,
    ),
    "must be resnet, transformer, applications.NAME, keras_hub.NAME, a file "
    "ending in .keras, or package.module:function",
)
