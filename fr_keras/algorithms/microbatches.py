"""What micro-batches have in common: outputs, gradients and averages."""

import numbers

import tensorflow as tf

from fr_keras.engine import structures
from fr_keras.engine.features import Features


def check_number(num_microbatches):
    """Rejects numbers of micro-batches that are none.

    Args:
        num_microbatches: int, M.

    Raises:
        ValueError: if it is not a positive integer.
    """
    if (
        isinstance(num_microbatches, bool)
        or not isinstance(num_microbatches, numbers.Integral)
        or num_microbatches < 1
    ):
        raise ValueError(
            "`num_microbatches` must be an integer, at least 1. "
            f"Received: {num_microbatches=}"
        )


def check_divisible(x, model):
    """Rejects batches that cannot be split into micro-batches.

    Args:
        x: nest of tensors, the input of the first module.
        model: algorithm with `num_microbatches`.

    Raises:
        ValueError: if they have another size, or sparse or ragged tensors.
    """
    for tensor in tf.nest.flatten(x):
        if not isinstance(tensor, tf.Tensor):
            raise ValueError(
                "Batches are split into micro-batches, so inputs must be "
                "dense tensors. Convert them, or use another method. "
                f"Received: an input of type {type(tensor).__name__}"
            )
        if tensor.shape[0] % (model.num_microbatches * model.replicas):
            divisor = f"num_microbatches={model.num_microbatches}"
            if model.replicas > 1:
                divisor += f" times replicas={model.replicas}"
            raise ValueError(
                f"The batch size must be divisible by {divisor}. To drop a "
                "smaller last batch, use `drop_remainder=True` in "
                "`tf.data.Dataset.batch`. "
                f"Received: batch_size={tensor.shape[0]}"
            )


def split_features(features, count, device):
    """Splits `Features` into a list with those of each micro-batch."""
    with tf.device(device), tf.name_scope("microbatches/"):
        tensors = [_split(tensor, count) for tensor in features.tensors]
    return [
        Features(list(microbatch), features.masks)
        for microbatch in zip(*tensors)
    ]


def split_nest(nest, count, device):
    """Splits labels or sample weights into those of each micro-batch."""
    leaves = tf.nest.flatten(nest)
    with tf.device(device), tf.name_scope("microbatches/"):
        parts = [
            [None] * count if leaf is None else _split(leaf, count)
            for leaf in leaves
        ]
    return [
        tf.nest.pack_sequence_as(nest, of_microbatch)
        for of_microbatch in zip(*parts)
    ]


def _split(tensor, count):
    """Splits a tensor into equal parts of its first dimension."""
    if tensor.dtype != tf.int64:
        return tf.split(tensor, count)
    # (TensorFlow has no kernel for these on a GPU.)
    size = tf.shape(tensor)[0] // count
    return [tensor[i * size : (i + 1) * size] for i in range(count)]


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


def commit_others(module, state_updates):
    """Assigns the state changes of a micro-batch, but for averages.

    Args:
        module: `fr_keras.engine.module.Module`.
        state_updates: list of `(variable, value)` from `Module.forward`.

    Returns:
        Tuple of the previous values of the replayed state, and the new averages
        for `commit_averages`.
    """
    averages = {id(variable) for variable in module.state.averages}
    state = module.commit(
        [(v, new) for v, new in state_updates if id(v) not in averages]
    )
    return state, [new for v, new in state_updates if id(v) in averages]


def loss_of_batch(model, module, outputs, y, sample_weight):
    """Computes the loss of all micro-batches, for the reports.

    Args:
        model: algorithm.
        module: its last `fr_keras.engine.module.Module`.
        outputs: list of `Features`, the outputs for the micro-batches.
        y: nest of tensors, the labels of the mini-batch.
        sample_weight: nest of tensors or `None`.

    Returns:
        Tuple of the loss of `compile` and the output for the mini-batch.
    """
    output = merged(outputs)
    return model.compute_loss(
        y=y, y_pred=module.packed(output), sample_weight=sample_weight
    ), output


def mean_losses(losses, device):
    """Averages the losses of layers over the micro-batches.

    Args:
        losses: list with a list for each module, of lists of scalar tensors for
            each micro-batch.
        device: full device name.

    Returns:
        List of scalar tensors.
    """
    with tf.device(device):
        return [
            tf.add_n(of_microbatches) * (1 / len(of_microbatches))
            for of_module in losses for of_microbatches in zip(*of_module)
        ]


def first_of(results):
    """Returns one tensor of the results of a call, to wait for all of them.

    Args:
        results: nest of tensors; run eagerly, it may have functions.

    Returns:
        List of a tensor, or empty if there is none.
    """
    return [
        result for result in structures.flatten(results)
        if tf.is_tensor(result)
    ][:1]
