"""The data of benchmarks: one batch, repeated."""

import tensorflow as tf


def repeated(batch):
    """Repeats one batch endlessly, so that reading takes no time.

    Args:
        batch: nest of tensors.

    Returns:
        `tf.data.Dataset`.
    """
    options = tf.data.Options()
    # Autotune threads sleep for seconds, and the end of `fit` waits for them.
    options.autotune.enabled = False
    return tf.data.Dataset.from_tensors(batch).repeat().with_options(options)
