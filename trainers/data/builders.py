"""Builders of TensorFlow Datasets: found, prepared, checked."""

import contextlib
import re
import socket

import tensorflow as tf
import tensorflow_datasets as tfds

from fr_keras.engine import placement
from trainers.command.errors import UsageError
from trainers.data.datasets import (  # noqa: F401, registers them.
    digits,
    patterns,
    python_manual,
)

# Names of TensorFlow Datasets: mnist, mnist:3.0.1, eurosat/rgb:2.0.0.
_NAME = r"\w+(/[\w.+-]+)?(:[\w.*]+)?"

# Those that are prepared without a network connection.
_EMBEDDED = ("digits", "patterns", "python_manual")


def find(name, data_dir=None):
    """Returns the builder of a dataset.

    Args:
        name: str, optionally with configuration and version.
        data_dir: str, directory of prepared datasets; `None` or `""` for
            `~/tensorflow_datasets`.

    Returns:
        `tfds.core.DatasetBuilder`.

    Raises:
        UsageError: if there is no such dataset, or it cannot be loaded.
    """
    unknown = (
        f"--dataset must be {', '.join(_EMBEDDED)}, an image or text dataset "
        "of TensorFlow Datasets, the path of a saved one (it begins with /, ./ "
        f"or ~/), or package.module:function. Received: {name}"
    )
    if not re.fullmatch(_NAME, name):
        raise UsageError(unknown)
    try:
        return tfds.builder(name, data_dir=data_dir or None)
    except tfds.core.registered.DatasetNotFoundError as error:
        raise UsageError(unknown) from error
    # TFDS has no specific exception for datasets that cannot be loaded.
    except Exception as error:
        raise UsageError(
            f"--dataset={name}: TensorFlow Datasets must be able to load it. "
            f"Received: {error}"
        ) from error


def prepared(name, data_dir=None):
    """As `find`, of a dataset prepared here or by another process.

    Raises:
        UsageError: also if it cannot be prepared.
    """
    builder = find(name, data_dir)
    if builder.is_prepared():
        return builder
    if builder.name not in _EMBEDDED and not _has_network():
        raise UsageError(
            f"--dataset={name}: must be prepared or downloadable. Run 'tfds "
            f"build {name}' on a machine with a network connection and copy "
            "its tensorflow_datasets folder here (--data_dir sets where to "
            f"look for it). Received: nothing prepared in {builder.data_dir}, "
            "and no network connection"
        )
    try:
        builder.download_and_prepare()
    except OSError as error:
        # Another process may have been faster; TFDS does not replace its files.
        others = find(name, data_dir)
        if others.is_prepared():
            return others
        raise UsageError(
            f"--dataset={name}: cannot be prepared in {builder.data_dir}. "
            f"Received: {error}"
        ) from error
    return builder


def _has_network():
    """Whether downloads can succeed; they are retried for minutes."""
    try:
        socket.create_connection(("www.tensorflow.org", 443), 5).close()
    except OSError:
        return False
    return True


def evaluation_split(name, builder):
    """The name of the split to test on: `test` or else `validation`.

    Raises:
        UsageError: if it or the training split is missing or empty.
    """
    splits = builder.info.splits
    found = "test" if "test" in splits else "validation"
    for split in ("train", found):
        if split not in splits or not splits[split].num_examples:
            raise UsageError(
                f"--dataset={name}: must have a split 'train' and a split "
                f"'test' or 'validation'. Received: {', '.join(splits)}"
            )
    return found


@contextlib.contextmanager
def reading(builder, device):
    """Reports data that are found to be damaged.

    Args:
        builder: `tfds.core.DatasetBuilder`.
        device: as for `trainers.data.data.Data`.

    Raises:
        UsageError: for an error of TensorFlow.
    """
    try:
        yield
    except tf.errors.OpError as error:
        # (The part before the braces names TensorFlow's own functions.)
        reason = error.message.rpartition("}} ")[2]
        raise UsageError(
            f"--dataset={builder.info.full_name}: the data in "
            f"{builder.data_dir}{_of_machine(device)} are damaged; delete "
            f"them to prepare them again. Received: {reason}"
        ) from error


def _of_machine(device):
    """Names the machine of a device, if it is not this one."""
    if device is None or placement.is_here(device):
        return ""
    return f" on the machine of {placement.short_name(device)}"


def check_labels(builder, split, device):
    """Reads a split once, without decoding images, to report damage early.

    Args:
        builder: `tfds.core.DatasetBuilder`, prepared, of labelled examples.
        split: str, name of the split.
        device: as for `trainers.data.data.Data`.

    Raises:
        UsageError: if data are damaged or labels out of range.
    """
    features = builder.info.features
    classes = features["label"].num_classes
    labels = builder.as_dataset(
        split=split,
        decoders={
            name: tfds.decode.SkipDecoding() for name in features
            if name == "image"
        },
        as_supervised=True,
    ).map(lambda _, label: label)
    bounds = tf.constant(0, tf.int64), tf.constant(0, tf.int64)
    with reading(builder, device):
        lowest, highest = labels.batch(10_000).reduce(
            bounds,
            lambda bounds, batch: (
                tf.minimum(bounds[0], tf.reduce_min(batch)),
                tf.maximum(bounds[1], tf.reduce_max(batch)),
            ),
        )
    if lowest < 0 or highest >= classes:
        raise UsageError(
            f"--dataset={builder.info.full_name}: labels must be from 0 to "
            f"{classes - 1}. Received: {int(lowest if lowest < 0 else highest)}"
            f", in the split '{split}'"
        )
