"""Checks that class labels are within the classes of the model."""

import functools
import re

import keras
import tensorflow as tf

from fr_keras.engine import private

_MESSAGE = "Labels must be integers from 0 up to the number of classes"


def check(loss, y, y_pred):
    """Adds an assertion to the graph that class indices are in range.

    It reads them in the memory of the host of the device in scope.

    Args:
        loss: the `loss` passed to `compile`.
        y: nest of tensors, the labels.
        y_pred: nest of tensors (or specs), the output of the model.

    Returns:
        The operation, or `None` if there is nothing to check (or, run
        eagerly, nothing left to check).
    """
    classes = _num_classes(loss, y_pred)
    if classes is None or not isinstance(y, tf.Tensor):
        return None
    with tf.device("CPU:0"):
        y = tf.cast(y, tf.int64)
        lowest, highest = tf.reduce_min(y), tf.reduce_max(y)
        wrong = tf.where(lowest < 0, lowest, highest)
        return tf.raw_ops.Assert(
            condition=(wrong >= 0) & (wrong < classes),
            data=[_MESSAGE, classes, wrong],
        )


def reports_wrong_labels(function):
    """Makes a function report labels out of range in plain words.

    Args:
        function: callable that runs graphs with `check` in them.

    Returns:
        The same callable, but raising `ValueError` for wrong labels.
    """

    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        try:
            return function(*args, **kwargs)
        except tf.errors.InvalidArgumentError as error:
            _raise_if_out_of_range(error)
            raise

    return wrapper


def are_wrong(error):
    """Whether an error is that of `check`, which precedes any change."""
    return _MESSAGE in str(error)


def _raise_if_out_of_range(error):
    text = str(error)
    ours = re.search(_MESSAGE + r"\D*(\d+)\D*?(-?\d+)", text)
    kernel = re.search(
        r"label value of (-?\d+) .* valid range of \[0, (\d+)\)", text
    )
    if ours:
        classes, label = ours.groups()
    elif kernel:
        label, classes = kernel.groups()
    else:
        return
    raise ValueError(
        f"Labels must be integers from 0 to {int(classes) - 1}, since the "
        f"model has {classes} outputs. Received: label={label}"
    ) from error


def _num_classes(loss, y_pred):
    """The number of classes, or None if labels are not class indices."""
    sparse = keras.losses.SparseCategoricalCrossentropy
    if isinstance(loss, sparse):
        if private.ignores_a_class(loss):
            return None
    elif loss not in (
        "sparse_categorical_crossentropy",
        keras.losses.sparse_categorical_crossentropy,
    ):
        return None
    return getattr(y_pred, "shape", (None,))[-1]
