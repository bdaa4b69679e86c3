"""The flags that describe a dataset."""

import re

import numpy as np
from absl import flags

flags.DEFINE_string(
    "dataset", "digits",
    "Dataset: digits or python_manual (prepared without a network connection); "
    "any image classification or text dataset of TensorFlow Datasets, like "
    "cifar10, cifar10:3.0.2 or imdb_reviews; a directory like ./mine, in whose "
    "train/ and test/ tf.data.Dataset.save wrote single examples with integer "
    "labels; or package.module:function for a function of yours that returns "
    "two such datasets and the number of classes.",
)
flags.DEFINE_string(
    "data_dir", None,
    "Directory of prepared datasets. Default: ~/tensorflow_datasets.",
)
flags.DEFINE_list(
    "mean", None,
    "Mean of every channel, for pixels from 0 to 255, for example "
    "125.3,123.0,113.9. Default: measured on the training set.",
)
flags.DEFINE_list(
    "std", None, "Standard deviation of every channel, like --mean."
)
flags.DEFINE_integer(
    "crop_padding", 0,
    "Augmentation: pad by this many pixels and crop at a random position.",
    lower_bound=0,
)
flags.DEFINE_bool("flip", False, "Augmentation: flip left-right at random.")
flags.DEFINE_string(
    "tokenizer", "bytes",
    "Tokens of texts: bytes, or keras_hub:PRESET for a tokenizer of KerasHub, "
    "by name or directory.",
)
flags.DEFINE_integer(
    "sequence_length", 64, "Tokens in an example of a text dataset.",
    lower_bound=1, upper_bound=1_000_000,
)


def _are_numbers(values, above):
    """Whether all are finite float32 numbers above a bound."""
    try:
        # A number too large for float32 becomes inf, without a warning.
        with np.errstate(over="ignore"):
            numbers = [np.float32(value) for value in values or []]
    except ValueError:
        return False
    return all(above < number < float("inf") for number in numbers)


# absl puts the flag and its value before the message.
flags.register_validator(
    "mean",
    lambda mean: _are_numbers(mean, above=-float("inf")),
    "must be numbers, one for each channel",
)
flags.register_validator(
    "std",
    lambda std: _are_numbers(std, above=0),
    "must be positive numbers, one for each channel",
)
flags.register_validator(
    "tokenizer",
    lambda name: re.fullmatch("bytes|keras_hub:.+", name),
    "must be bytes or keras_hub:PRESET",
)
