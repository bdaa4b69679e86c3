"""Writes checkpoints while training goes on."""

import concurrent.futures
import logging

import tensorflow as tf

from fr_keras.callbacks.checkpoints import store

_logger = logging.getLogger("fr_keras")


class BackgroundWriter:
    """Writes one checkpoint after another, by a thread of its own.

    One that cannot be written is told once, until others can.

    A process that ends in its own time waits for what is being written; one
    that is killed leaves what it had before, since nothing is deleted until
    the new one is whole and on the disk.
    """

    def __init__(self):
        self._threads = None
        self._writing = None
        self._can_write = True

    @property
    def is_writing(self):
        """Whether a checkpoint is being written at this moment."""
        return self._writing is not None and not self._writing.done()

    def start(self, write):
        """Begins to write; what was being written is waited for.

        Args:
            write: callable that returns a dict from `store.Store`s that
                cannot be written to, to errors.
        """
        self.finish()
        if self._threads is None:
            self._threads = concurrent.futures.ThreadPoolExecutor(
                1, "fr_keras_checkpoints"
            )
        self._writing = self._threads.submit(write)

    def finish(self):
        """Waits for what is being written, and tells what became of it.

        Returns:
            Dict from `store.Store`s that could not be written to, to errors.

        Raises:
            Exception: if it is neither of the disk nor of TensorFlow.
        """
        if self._writing is None:
            return {}
        writing, self._writing = self._writing, None
        failed = writing.result()
        for where, error in failed.items():
            self.tell(where, error)
        if not failed:
            if not self._can_write:
                _logger.warning("Checkpoints are written again.")
            self._can_write = True
        return failed

    def tell(self, where, error):
        """Tells of a checkpoint that cannot be written, once.

        Args:
            where: `store.Store`.
            error: exception.
        """
        if self._can_write:
            _logger.warning(
                "A checkpoint cannot be written to %s, training goes on and "
                "it will be tried again: %s",
                where.directory, store.reason(error),
            )
        self._can_write = False


# What says that a checkpoint cannot be written, and not that this is wrong.
FAILURES = (OSError, tf.errors.OpError)
