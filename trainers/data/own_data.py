"""Datasets of the user: saved, or returned by a function."""

import os
import re

import tensorflow as tf

from trainers.command.errors import UsageError
from trainers.data.data import Data


def load(name, function, device=None):
    """Loads a dataset.

    Args:
        name: str, the value of `--dataset`, for messages.
        function: callable without arguments that returns a tuple `(train,
            test, num_classes)`: two `tf.data.Dataset` of single examples
            `(x, y)` or `(x, y, sample_weight)` with integer labels, and an
            int, or `None` for one class more than the highest label.
        device: as for `Data`.

    Returns:
        `Data`.

    Raises:
        UsageError: if the function fails or returns something else.
    """

    def error(expected, received):
        return UsageError(
            f"--dataset={name} must provide {expected}. Received: {received}"
        )

    try:
        with tf.device(device):
            found = function()
    # What users wrote may fail in any way.
    except Exception as failure:
        raise UsageError(
            f"--dataset={name} failed: {type(failure).__name__}: {failure}"
        ) from failure
    if not (
        isinstance(found, tuple) and len(found) == 3
        and all(isinstance(part, tf.data.Dataset) for part in found[:2])
        and (found[2] is None or isinstance(found[2], int) and found[2] >= 1)
    ):
        raise error(
            "a tuple (train, test, num_classes) of two tf.data.Dataset and an "
            "int", found,
        )
    train, test, num_classes = found
    if train.element_spec != test.element_spec:
        raise error(
            "training and test examples of the same kind",
            f"{train.element_spec} and {test.element_spec}",
        )
    spec = train.element_spec
    if not (
        isinstance(spec, tuple) and len(spec) in (2, 3)
        and isinstance(spec[1], tf.TensorSpec) and spec[1].dtype.is_integer
    ):
        raise error(
            "examples (x, y) or (x, y, sample_weight) with integer labels", spec
        )
    for part in tf.nest.flatten(spec):
        if not isinstance(part, tf.TensorSpec) or (
            not part.shape.is_fully_defined()
        ):
            raise error("single examples of known shape, not batches", spec)
    sizes = []
    for dataset in (train, test):
        size = int(dataset.cardinality())
        if size < 1:
            raise error(
                "datasets of known size (see "
                "tf.data.experimental.assert_cardinality)", f"a size of {size}",
            )
        sizes.append(size)
    with tf.device(device):
        # All labels once, since wrong ones would train silently.
        bounds = [*_bounds(train), *_bounds(test)]
    lowest, highest = min(bounds), max(bounds)
    if num_classes is None:
        num_classes = highest + 1
    if lowest < 0 or highest >= num_classes:
        raise error(
            f"labels from 0 to {num_classes - 1}",
            lowest if lowest < 0 else highest,
        )
    return Data(train, test, *sizes, num_classes, device)


def is_saved(name):
    """Whether a value of `--dataset` is the path of a saved dataset."""
    return re.match(r"~?/|\.\.?/", name) is not None


def saved(path):
    """Loads datasets that `tf.data.Dataset.save` wrote.

    Args:
        path: str, a directory with a dataset in `train` and another in `test`.

    Returns:
        Function as `load` takes it.
    """
    return lambda: (
        *(
            tf.data.Dataset.load(os.path.join(os.path.expanduser(path), name))
            for name in ("train", "test")
        ),
        None,
    )


def _bounds(dataset):
    """The lowest and the highest label, two ints."""
    bounds = (tf.constant(b, tf.int64) for b in (tf.int64.max, tf.int64.min))
    lowest, highest = dataset.map(lambda x, y, *_: y).batch(1000).reduce(
        tuple(bounds),
        lambda bounds, labels: (
            tf.minimum(bounds[0], tf.cast(tf.reduce_min(labels), tf.int64)),
            tf.maximum(bounds[1], tf.cast(tf.reduce_max(labels), tf.int64)),
        ),
    )
    return int(lowest), int(highest)
