"""The intervals between checkpoints."""

import time


class Intervals:
    """Determines when the next checkpoint is due.

    Args:
        model: algorithm.
        every_steps: as for `Checkpoints`.
        every_minutes: the same.
        every_epochs: the same.
    """

    def __init__(self, model, every_steps, every_minutes, every_epochs):
        self._model = model
        self._every_steps = every_steps
        self._every_minutes = every_minutes
        self._every_epochs = every_epochs
        self._before = None
        self.restart()

    def restart(self):
        """Starts measuring the time to the next checkpoint."""
        self._start = time.monotonic()

    def begin_epoch(self):
        """To be called when an epoch begins, with the state restored."""
        self._before = None

    def begin_batch(self):
        """To be called before each call of the training function."""
        # Reading a variable waits for its device, so it is read once per call.
        if self._every_steps and self._before is None:
            self._before = self._step()

    def is_due(self, is_writing):
        """Whether a checkpoint is due after a call of the training function.

        Args:
            is_writing: bool, whether the previous one is still being written;
                until it is complete, none is due by time.
        """
        if self._every_steps:
            before, self._before = self._before, self._step()
            if self._before // self._every_steps > before // self._every_steps:
                return True
        if not self._every_minutes or is_writing:
            return False
        return time.monotonic() - self._start >= 60 * self._every_minutes

    def is_due_after(self, epoch):
        """Whether a checkpoint is due at the end of an epoch.

        Args:
            epoch: int, from 0.
        """
        return bool(self._every_epochs) and (
            (epoch + 1) % self._every_epochs == 0
        )

    def _step(self):
        """The number of iterations of the training."""
        return self._model.optimizer.global_step
