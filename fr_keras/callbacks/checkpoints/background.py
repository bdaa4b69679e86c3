"""Writes checkpoints while training continues."""

import concurrent.futures
import logging

import tensorflow as tf

from fr_keras.callbacks.checkpoints import store

_logger = logging.getLogger("fr_keras")


class BackgroundWriter:
    """Writes one checkpoint after another in a background thread.

    A failure is reported once, until checkpoints can be written again.

    A process that exits normally waits for the checkpoint being written; one
    that is killed leaves the previous ones, since nothing is deleted until the
    new one is complete and on disk.
    """

    def __init__(self):
        self._threads = None
        self._writing = None
        self._can_write = True

    @property
    def is_writing(self):
        """Whether a checkpoint is being written now."""
        return self._writing is not None and not self._writing.done()

    def start(self, write):
        """Starts writing, after any write in progress has finished.

        Args:
            write: callable that returns a dict from each `store.Store` that
                cannot be written to, to the error.
        """
        self.finish()
        if self._threads is None:
            self._threads = concurrent.futures.ThreadPoolExecutor(
                1, "fr_keras_checkpoints"
            )
        self._writing = self._threads.submit(write)

    def finish(self):
        """Waits for the write in progress and reports its outcome.

        Returns:
            Dict from each `store.Store` that could not be written to, to the
            error.

        Raises:
            Exception: an error that is neither of the disk nor of TensorFlow.
        """
        if self._writing is None:
            return {}
        writing, self._writing = self._writing, None
        failed = writing.result()
        for where, error in failed.items():
            self.report(where, error)
        if not failed:
            if not self._can_write:
                _logger.warning("Checkpoints can be written again")
            self._can_write = True
        return failed

    def report(self, where, error):
        """Reports once that a checkpoint cannot be written.

        Args:
            where: `store.Store`.
            error: exception.
        """
        if self._can_write:
            _logger.warning(
                "A checkpoint cannot be written to %s; training continues and "
                "writing will be retried: %s",
                where.directory, store.reason(error),
            )
        self._can_write = False


# Errors of a checkpoint that cannot be written, as opposed to bugs here.
FAILURES = (OSError, tf.errors.OpError)
