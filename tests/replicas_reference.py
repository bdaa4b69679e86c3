"""Replicas, written from the description in docs/parallelism.md alone."""

import numpy as np
import tensorflow as tf


def split(x, y, replicas):
    """Splits a batch into consecutive shards, the larger ones first.

    Args:
        x: NumPy array of inputs, one example per row.
        y: NumPy array of targets, one example per row.
        replicas: Number of shards.

    Returns:
        List of (x, y, weight), where weight is the shard's share of the
        batch. An empty shard holds the first example, with weight 0.
    """
    quotient, remainder = divmod(len(x), replicas)
    shards = []
    start = 0
    for i in range(replicas):
        size = quotient + (i < remainder)
        rows = slice(start, start + size) if size else slice(0, 1)
        shards.append((x[rows], y[rows], size / len(x)))
        start += size
    return shards


def train(network, batches, replicas, optimizer, loss):
    """Trains a Keras model in place, as data-parallel replicas would.

    Args:
        network: Built functional `keras.Model`.
        batches: List of (x, y), both NumPy arrays.
        replicas: Number of copies of the network, an integer.
        optimizer: Keras optimizer, not built.
        loss: Function (y, outputs) that returns one value per example.

    Returns:
        List with the loss of each whole batch, layer losses included.
    """
    weights = network.trainable_variables
    states = [variable for variable in network.non_trainable_variables
              if tf.as_dtype(variable.dtype).is_floating]
    history = []
    for x, y in batches:
        before = [state.numpy() for state in states]
        gradients = [np.zeros(weight.shape, weight.dtype)
                     for weight in weights]
        after = []
        total = 0.0
        for shard_x, shard_y, share in split(x, y, replicas):
            for state, value in zip(states, before):
                state.assign(value)
            with tf.GradientTape() as tape:
                outputs = network(shard_x, training=True)
                value = tf.reduce_mean(loss(shard_y, outputs))
                for extra in network.losses:
                    value += tf.cast(extra, value.dtype)
            shard_gradients = tape.gradient(
                value, [weight.value for weight in weights],
                unconnected_gradients=tf.UnconnectedGradients.ZERO)
            for i, gradient in enumerate(shard_gradients):
                gradient = tf.convert_to_tensor(gradient).numpy()
                gradients[i] = gradients[i] + share * gradient
            after.append([state.numpy() for state in states])
            total += share * float(value)
        for state, *values in zip(states, *after):
            state.assign(np.mean(values, axis=0))
        optimizer.apply([tf.convert_to_tensor(gradient)
                         for gradient in gradients], weights)
        history.append(total)
    return history
