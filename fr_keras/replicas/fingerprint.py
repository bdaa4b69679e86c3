"""Fingerprints of variables, to find out whether copies are equal."""

import tensorflow as tf

from fr_keras.engine import placement


class Fingerprints:
    """Computes a number for each of several groups of variables.

    Groups with other values, even in the order of the same numbers, have
    another fingerprint, except by chance (1 in 2⁶⁴).

    Args:
        groups: list of tuples `(device, variables)`: the full name of the
            device that holds the variables, and a list of `keras.Variable`s.
    """

    def __init__(self, groups):
        def compute():
            found = []
            for device, variables in groups:
                with tf.device(device):
                    found.append(_fingerprint(variables))
            with tf.device(placement.this_host()):
                return tf.stack(found)

        self._compute = tf.function(
            compute, autograph=False
        ).get_concrete_function()

    def read(self):
        """Returns the fingerprints, a list of ints."""
        return self._compute().numpy().tolist()


def _fingerprint(variables):
    total = tf.zeros([], tf.int64)
    for variable in variables:
        words = _words(tf.convert_to_tensor(variable.value))
        # Odd factors, by which no bit is lost.
        factors = 2 * tf.range(tf.size(words, tf.int64)) + 1
        total = 31 * total + tf.reduce_sum(words * factors)
    return total


def _words(tensor):
    """Returns the bits of a tensor as a vector of int64."""
    if tensor.dtype == tf.bool:
        tensor = tf.cast(tensor, tf.uint8)
    flat = tf.reshape(tensor, [-1])
    per_word = 8 // tensor.dtype.size
    if per_word == 1:
        return tf.bitcast(flat, tf.int64)
    flat = tf.pad(flat, [[0, -flat.shape[0] % per_word]])
    return tf.bitcast(tf.reshape(flat, [-1, per_word]), tf.int64)
