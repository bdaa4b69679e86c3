"""What micro-batches have in common: outputs, gradients and averages."""

import tensorflow as tf

from fr_keras.engine.features import Features


def merged(outputs):
    """Puts the features of several micro-batches together."""
    return Features(*(
        [
            None if parts[0] is None else tf.concat(parts, 0)
            for parts in zip(*microbatches)
        ]
        for microbatches in zip(*outputs)
    ))


def add_to(total, gradients):
    """Adds gradients of a micro-batch to those of others, if any."""
    if total is None:
        return gradients
    return [add_gradients(*pair) for pair in zip(total, gradients)]


def add_gradients(a, b):
    """Adds two gradients of the same variable."""
    if isinstance(a, tf.IndexedSlices):
        return tf.IndexedSlices(
            tf.concat([a.values, b.values], 0),
            tf.concat([a.indices, b.indices], 0),
            a.dense_shape,
        )
    return None if a is None else a + b


def commit_averages(module, averages):
    """Updates the averages of batch normalization, once per mini-batch.

    Args:
        module: `fr_keras.engine.module.Module`.
        averages: list with one list of tensors for each micro-batch, the
            averages as updated by it.
    """
    module.commit(
        (variable, tf.add_n(values) / len(values))
        for variable, values in zip(module.state.averages, zip(*averages))
    )
