"""Flags that list algorithms and numbers of modules."""

from absl import flags

import fr_keras
from trainers.command.validation import are_numbers

FLAGS = flags.FLAGS

flags.DEFINE_list(
    "algorithms", ["backprop", "features_replay", "ddg", "dni"],
    f"Algorithms, any of {', '.join(fr_keras.ALGORITHMS)}.",
)
flags.DEFINE_list(
    "numbers_of_modules", ["2", "3", "4"], "Numbers of modules K."
)

flags.register_validator(
    "algorithms",
    lambda names: names
    and len({*names}) == len(names)
    and all(name in fr_keras.ALGORITHMS for name in names),
    f"must be distinct names out of {', '.join(fr_keras.ALGORITHMS)}",
)
flags.register_validator(
    "numbers_of_modules",
    lambda values: are_numbers(values, lowest=1),
    "must be distinct integers of at least 1, like 2,3,4",
)


def numbers_of_modules():
    """The numbers K, a list of int."""
    return [int(value) for value in FLAGS.numbers_of_modules]
