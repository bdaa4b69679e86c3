"""The newest checkpoints of a training, and the best."""

import math
import os

from fr_keras.callbacks.checkpoints import restoring
from fr_keras.callbacks.checkpoints.background import FAILURES, BackgroundWriter
from fr_keras.callbacks.checkpoints.store import Store


class CheckpointManager:
    """Keeps the newest checkpoints of a training, and the best.

    They are written in the background. A best that cannot be written is not
    the best.

    Args:
        directory: str or path. The best checkpoint is in its subdirectory
            `best`.
        keep: int, number of checkpoints to keep.

    Attributes:
        newest: `Store` of the newest checkpoints.
        best: `Store` of the best.
        best_value: float, the monitored value of the best, or `None`.
    """

    def __init__(self, directory, keep):
        self.newest = Store(directory, keep)
        self.best = Store(os.path.join(self.newest.directory, "best"), 1)
        self.best_value = None
        self._writer = BackgroundWriter()

    @property
    def is_writing(self):
        """Whether a checkpoint is being written now."""
        return self._writer.is_writing

    def restore(self, model, configured):
        """Sets a model to the newest checkpoint that can be read.

        Args:
            model: algorithm.
            configured: dict, as returned by `configuration.of_training`.

        Returns:
            `Restored`, or `None` if there is no checkpoint at all.

        Raises:
            CheckpointError: if none can be read, or one does not fit.
        """
        self.best_value = None
        restored = restoring.restore_newest(
            model, [self.best, self.newest], configured
        )
        if restored is not None:
            self.best_value = restored.manifest["best"]
        return restored

    def is_best(self, value, mode):
        """Whether a monitored value is the best so far.

        Args:
            value: float, or `None`, which is not.
            mode: "min" or "max".
        """
        if value is None or not math.isfinite(value):
            return False
        return self.best_value is None or (
            value < self.best_value if mode == "min"
            else value > self.best_value
        )

    def write(self, snapshot, stores, log_files):
        """Starts writing a checkpoint; `wait` must have been called before.

        Args:
            snapshot: `Snapshot`; the entry "best" of its manifest becomes the
                best value.
            stores: list of `Store`s to write it to, one after the other.
            log_files: `LogFiles`, which will be on disk before.
        """
        self._value_before = self.best_value
        self.best_value = snapshot.manifest["best"]

        def write():
            failed = {}
            for where in stores:
                try:
                    log_files.sync(snapshot.manifest["logs"])
                    where.write(snapshot)
                except FAILURES as error:
                    failed[where] = error
                    if where is self.best:
                        snapshot.manifest["best"] = self._value_before
            return failed

        self._writer.start(write)

    def wait(self):
        """Waits for the write in progress; returns whether it failed."""
        failed = self._writer.finish()
        if self.best in failed:
            self.best_value = self._value_before
        return bool(failed)

    def report(self, where, error):
        """Reports once that a checkpoint cannot be written.

        Args:
            where: `Store`.
            error: exception.
        """
        self._writer.report(where, error)
