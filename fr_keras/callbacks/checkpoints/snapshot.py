"""The values of variables at one moment."""

import json

import tensorflow as tf

from fr_keras.engine import placement


class Reader:
    """Reads many variables at once, wherever they are.

    It uses one function, traced at the first read: single operations on a
    worker that hangs would block all threads of this process, even the one
    that would notice.
    """

    def __init__(self):
        self._variables = []
        self._read = None

    def prepare(self, variables):
        """Traces the function of `read`, unless done for the same variables.

        Args:
            variables: dict from names to lists of `tf.Variable`.
        """
        given = [v for group in variables.values() for v in group]
        if self._read is not None and len(given) == len(self._variables) and (
            all(a is b for a, b in zip(given, self._variables))
        ):
            return

        def read():
            with tf.device(placement.this_host()):
                return [tf.identity(variable) for variable in given]

        self._variables = given
        self._read = tf.function(read, autograph=False).get_concrete_function()

    def read(self, variables):
        """Returns the values of variables, in the memory of this host.

        Further training changes the variables but not these values: those on
        accelerators and other machines are copied; the memory of a variable on
        this host is shared until it is written to, when TensorFlow allocates
        new memory for the variable.

        Args:
            variables: dict from names to lists of `tf.Variable`.

        Returns:
            Dict from the same names to lists of pairs of a tensor and the
            `tf.TensorShape` of the variable.

        Raises:
            tf.errors.OpError: if a worker is lost, so they cannot be read.
        """
        self.prepare(variables)
        values = iter(self._read())
        return {
            # Variables of replay queues leave their shapes open.
            name: [(next(values), variable.shape) for variable in group]
            for name, group in variables.items()
        }


class Snapshot:
    """The contents of a checkpoint.

    Args:
        values: dict, as returned by `Reader.read`.
        manifest: dict for JSON.
        arrays: iterable of arrays that the manifest refers to.

    Attributes:
        manifest: dict.
    """

    def __init__(self, values, manifest, arrays=()):
        self.manifest = manifest
        self._values = values
        self._arrays = list(arrays)

    def checkpoint(self):
        """Returns a `tf.train.Checkpoint` of all contents."""
        with tf.device(placement.this_host()):
            return tf.train.Checkpoint(
                manifest=tf.Variable(json.dumps(self.manifest)),
                arrays=[tf.Variable(array) for array in self._arrays],
                **{
                    name: [
                        tf.Variable(value, shape=shape)
                        for value, shape in group
                    ]
                    for name, group in self._values.items()
                },
            )
