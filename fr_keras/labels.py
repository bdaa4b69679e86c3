"""Checks that class labels are classes of the model."""

import re

import keras
import tensorflow as tf

_MESSAGE = "Labels must be integers from 0 up to the number of classes"


def check(loss, y, y_pred):
    """Adds an assertion on labels that are class indices to the graph.

    Args:
        loss: the `loss` that was given to `compile`.
        y: nest of tensors, the labels.
        y_pred: nest of tensors (or specs), the output of the model.
    """
    classes = _num_classes(loss, y_pred)
    if classes is None or not isinstance(y, tf.Tensor):
        return
    with tf.device("CPU:0"):
        y = tf.cast(y, tf.int64)
        lowest, highest = tf.reduce_min(y), tf.reduce_max(y)
        wrong = tf.where(lowest < 0, lowest, highest)
        tf.raw_ops.Assert(
            condition=(wrong >= 0) & (wrong < classes),
            data=[_MESSAGE, classes, wrong],
        )


def raise_if_out_of_range(error):
    """Raises a `ValueError` if TensorFlow's error is due to the labels.

    Args:
        error: `tf.errors.InvalidArgumentError`.
    """
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
        f"model has {classes} outputs. Received: a label of {label}"
    ) from error


def _num_classes(loss, y_pred):
    """How many classes there are, or None if labels are not class indices."""
    sparse = keras.losses.SparseCategoricalCrossentropy
    if isinstance(loss, sparse):
        if loss._fn_kwargs.get("ignore_class") is not None:
            return None
    elif loss not in (
        "sparse_categorical_crossentropy",
        keras.losses.sparse_categorical_crossentropy,
    ):
        return None
    return getattr(y_pred, "shape", (None,))[-1]
