"""The data of benchmarks: one batch, again and again."""

import tensorflow as tf


def repeated(batch):
    """The same batch without end, so that reading takes no time.

    Args:
        batch: nest of tensors.

    Returns:
        `tf.data.Dataset`.
    """
    options = tf.data.Options()
    # Its thread sleeps for seconds, and the end of `fit` waits for it.
    options.autotune.enabled = False
    return tf.data.Dataset.from_tensors(batch).repeat().with_options(options)
