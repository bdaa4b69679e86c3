"""Keeps the copies of modules equal."""

import tensorflow as tf

from fr_keras.replicas.fingerprint import Fingerprints


class Synchronization:
    """Keeps the modules of several pipelines equal.

    Updates leave the copies of a module equal, bit for bit (see
    `fr_keras.replicas.exchange.Exchange`). Two things do not: the averages of
    batch normalization, to which every copy adds the statistics of its own
    examples; and assignments from outside, such as restored weights.

    Args:
        pipelines: list of `fr_keras.algorithms.pipeline.BasePipeline`s. The
            modules of all but the first are
            `fr_keras.replicas.module_copy.ModuleCopy`s.
    """

    def __init__(self, pipelines):
        self._pipelines = pipelines
        self._fingerprints = None

    def follow(self):
        """Copies what has changed in the first pipeline to the others.

        Call it between calls of the training function, when all is built.
        """
        originals, *others = (p.learners for p in self._pipelines)
        if not others:
            return
        if self._fingerprints is None:
            copies = [copy for row in others for copy in row]
            self._pairs = [copy.equal_variables() for copy in copies]
            self._fingerprints = Fingerprints([
                *((original.device, [a for a, _ in pairs])
                  for original, pairs in zip(originals, self._pairs)),
                *((copy.device, [b for _, b in pairs])
                  for copy, pairs in zip(copies, self._pairs)),
            ])
        found = self._fingerprints.read()
        theirs, ours = found[:len(originals)], found[len(originals):]
        for pairs, copy_has, original_has in zip(
            self._pairs, ours, theirs * len(others)
        ):
            if copy_has != original_has:
                for original, copy in pairs:
                    copy.assign(original.value)

    def average(self):
        """Averages what batch normalization averages over the copies.

        New averages are linear in the statistics of each mini-batch, so it does
        not matter whether this is done after every iteration or, as here, once
        for several.
        """
        if len(self._pipelines) == 1:
            return
        for copies in zip(*(pipeline.modules for pipeline in self._pipelines)):
            averages = [copy.state.averages for copy in copies]
            for variables in zip(*averages):
                with tf.device(copies[0].device):
                    mean = tf.add_n([
                        tf.convert_to_tensor(v.value) for v in variables
                    ]) / len(copies)
                for copy, variable in zip(copies, variables):
                    with tf.device(copy.device):
                        variable.assign(mean)
