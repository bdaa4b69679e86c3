"""The values of variables at one moment."""

import json

import tensorflow as tf

from fr_keras import placement


class Snapshot:
    """What a checkpoint holds, in the memory of this host.

    What is trained on changes the variables, and not these: values of
    accelerators and of other machines are copied when this is made; the memory
    of a variable on this host is shared until it is written to, when
    TensorFlow gives the variable another.

    Args:
        variables: dict from names to lists of `tf.Variable`.
        manifest: dict for JSON.
        arrays: iterable of arrays that the manifest refers to.

    Raises:
        tf.errors.OpError: if variables cannot be read, since a worker is lost.
    """

    def __init__(self, variables, manifest, arrays=()):
        self.manifest = manifest
        self._arrays = list(arrays)
        with tf.device(placement.this_host()):
            self._values = {
                name: [(tf.identity(v), v.shape) for v in group]
                for name, group in variables.items()
            }

    def checkpoint(self):
        """A `tf.train.Checkpoint` of all that is in it."""
        with tf.device(placement.this_host()):
            return tf.train.Checkpoint(
                manifest=tf.Variable(json.dumps(self.manifest)),
                arrays=[tf.Variable(array) for array in self._arrays],
                **{
                    name: [
                        # Those of replay queues leave their shapes open.
                        tf.Variable(value, shape=shape)
                        for value, shape in group
                    ]
                    for name, group in self._values.items()
                },
            )
