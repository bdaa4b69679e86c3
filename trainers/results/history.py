"""The history of a run: its logs at the end of each epoch."""

import csv
import logging
import math
import time

import keras

from trainers.command import workdir

_logger = logging.getLogger("fr_keras")


class History(keras.callbacks.Callback):
    """Keeps the logs of all epochs, and writes them to a file.

    The file is rewritten after every epoch. If that fails, training continues,
    and the next successful write is complete again. A run resumed from a
    checkpoint continues the history up to that point.

    Args:
        path: str, of the CSV file.

    Attributes:
        rows: list of dicts from the names of logs to floats, one for each
            epoch.
        seconds: float, training time so far, over all processes.
    """

    def __init__(self, path):
        super().__init__()
        self.path = path
        self.rows = []
        self.seconds = 0.0
        self._since = time.monotonic()
        self._can_write = True

    def get_state(self):
        self._count()
        return {"rows": self.rows, "seconds": self.seconds}

    def set_state(self, state):
        self.rows, self.seconds = state["rows"], state["seconds"]

    def _count(self):
        """Adds the time since the last call."""
        now = time.monotonic()
        self.seconds += now - self._since
        self._since = now

    def on_train_begin(self, logs=None):
        self._since = time.monotonic()

    def on_epoch_end(self, epoch, logs=None):
        self._count()
        self.rows.append({
            "epoch": epoch, **{k: float(v) for k, v in (logs or {}).items()}
        })
        self.write()

    def add_failure(self, names):
        """Adds an epoch that ended in non-finite numbers.

        Args:
            names: names of required logs.
        """
        self._count()
        names = [*names, *(self.rows[-1] if self.rows else ())]
        self.rows.append({
            **dict.fromkeys(names, math.nan), "epoch": len(self.rows)
        })
        self.write()

    def write(self):
        """Writes the file."""
        try:
            with workdir.replaced(self.path) as part, open(
                part, "w", newline=""
            ) as file:
                names = {name: None for row in self.rows for name in row}
                names.pop("epoch")
                writer = csv.DictWriter(file, ["epoch", *sorted(names)])
                writer.writeheader()
                writer.writerows(self.rows)
        except OSError as error:
            if self._can_write:
                _logger.warning(
                    "%s cannot be written; training continues and writing will "
                    "be retried: %s", self.path, error,
                )
            self._can_write = False
            return
        if not self._can_write:
            _logger.warning("%s can be written again", self.path)
        self._can_write = True
