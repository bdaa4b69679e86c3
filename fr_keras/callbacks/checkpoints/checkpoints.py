"""The callback that writes checkpoints and resumes from the newest."""

import os
from collections.abc import Sequence

import numpy as np

from fr_keras.algorithms.resuming import ResumingCallback
from fr_keras.batches.batch_spec import BatchSpec
from fr_keras.callbacks.checkpoints import (
    checkpointable,
    configuration,
    manifest,
)
from fr_keras.callbacks.checkpoints.background import FAILURES
from fr_keras.callbacks.checkpoints.callback_state import CallbackState
from fr_keras.callbacks.checkpoints.intervals import Intervals
from fr_keras.callbacks.checkpoints.log_files import LogFiles
from fr_keras.callbacks.checkpoints.manager import CheckpointManager
from fr_keras.callbacks.checkpoints.model_reader import ModelReader
from fr_keras.callbacks.checkpoints.snapshot import Snapshot
from fr_keras.callbacks.checkpoints.training_position import TrainingPosition
from fr_keras.callbacks.checkpoints.writers import Writers
from fr_keras.engine.recording import check_is_algorithm


class Checkpoints(ResumingCallback):
    """Writes checkpoints of the whole training and resumes from the newest.

    If training is interrupted at any moment, running the same program again
    with the same directory resumes it from the newest checkpoint, even in the
    middle of an epoch, and ends with the same weights, bit for bit, as without
    the interruption. Checkpoints contain weights, the state of optimizers and
    learning rate, *replay queues and error gradients*, the warm-up, random
    numbers, metrics, the position in the data, and the state of the other
    callbacks (see `callback_state.py` beside this file).

    To get identical weights, the data must depend only on seeds: arrays after
    `keras.utils.set_random_seed`, or a `tf.data.Dataset` whose `shuffle` and
    random maps have seeds; and TensorFlow must be deterministic, which
    `tf.config.experimental.enable_op_determinism()` guarantees.

    Checkpoints have TensorFlow's format (`tf.train.Checkpoint`). They are
    written by a background thread: training waits only while everything is
    copied to the host, which must have the memory, and for the previous
    checkpoint if that is still being written; `fit` does not return before the
    last one is complete. A new checkpoint is complete and on disk before an old
    one is deleted. If the newest cannot be read, the previous one is used, with
    a warning; if none can be read, `fit` raises an error and changes nothing.
    If a checkpoint cannot be written, for instance on a full disk, training
    continues, with a single warning, and writes again when the next one is due.
    Nothing is written if the loss or the weights are not finite.

    Use one directory per training. TensorBoard's event files and the files of
    CSVLogger (with `append=True`) are truncated to the checkpoint, so that no
    step is logged twice.

    Args:
        directory: str or path. The best checkpoint is in its subdirectory
            `best`.
        every_steps: int, iterations between checkpoints, or `None`. They are
            written between two calls of the training function.
        every_minutes: float, minutes between checkpoints, or `None`; longer if
            the previous one is still being written.
        every_epochs: int, epochs between checkpoints, or `None`; the end of
            the last epoch always writes one.
        keep: int, number of checkpoints to keep, at least 2, so that there is
            one before the newest.
        monitor: str, the log that determines the best epoch so far, whose
            checkpoint is kept beside the newest; `None` for no best.
        mode: "min" or "max", whether lower or higher is better.
        logs: list of files, and directories of event files, to which training
            appends, besides those of Keras' callbacks.

    Attributes:
        restored: str, the checkpoint from which the last `fit` resumed, or
            `None` if it started from scratch.
        best: float, the best value of `monitor`, or `None`.

    Raises:
        ValueError: for arguments out of range; when `fit` is called, if the
            model is run eagerly, has no optimizer, or has an algorithm that
            does not name its state.
        CheckpointError: when `fit` is called, if there are checkpoints but
            none can be read, or the newest belongs to another network,
            optimizer, number of modules, algorithm or format.

    Example:

    ```python
    model.fit(x, y, epochs=90, callbacks=[
        fr_keras.Checkpoints("checkpoints", every_minutes=10)
    ])
    ```
    """

    def __init__(
        self, directory: str | os.PathLike[str], every_steps: int | None = None,
        every_minutes: float | None = None, every_epochs: int | None = 1,
        keep: int = 3, monitor: str = "val_loss", mode: str = "min",
        logs: Sequence[str | os.PathLike[str]] = (),
    ) -> None:
        super().__init__()
        _check_arguments(every_steps, every_minutes, every_epochs, keep, mode)
        self.every_steps = every_steps
        self.every_minutes = every_minutes
        self.every_epochs = every_epochs
        self.monitor = monitor
        self.mode = mode
        self.logs = logs
        self.restored = None
        self._manager = CheckpointManager(directory, keep)

    @property
    def best(self) -> float | None:
        """float, the best value of `monitor` so far, or `None`."""
        return self._manager.best_value

    def set_model(self, model):
        check_is_algorithm(model, self)
        super().set_model(model)

    def before_fit(self, model, others):
        """Restores the newest checkpoint."""
        checkpointable.check_model(model)
        self.restored = self._restored = None
        self._others = others
        writers = Writers(self._manager.newest.directory)
        self._log_files = LogFiles(self.logs, others, writers)
        self._logs = None
        # Now, since callbacks may change the optimizer later.
        self._configured = configuration.of_training(model)
        self._restored = self._manager.restore(model, self._configured)
        if self._restored is not None:
            self.restored = self._restored.prefix
            # Done before a callback opens them again.
            self._log_files.truncate(self._restored.manifest["logs"])
        if not self._log_files:
            return
        try:
            writers.note()
        except OSError as error:
            self._manager.report(self._manager.newest, error)

    def after_fit(self):
        """Waits for the write in progress."""
        self._manager.wait()

    def on_train_begin(self, logs=None):
        self._callback_state = CallbackState(self._others)
        self._intervals = Intervals(
            self.model, self.every_steps, self.every_minutes, self.every_epochs
        )
        self._position = TrainingPosition(self.model)
        self._reader = ModelReader(self.model)
        if self._restored is None:
            return
        restored = self._restored.manifest
        # Other callbacks may have discarded what was built, and there may be
        # no further batch.
        self.model.training.prepare(BatchSpec.from_string(restored["batch_spec"]))
        self._restored.set_callbacks(self._callback_state)
        self._position.set(restored["position"], self.params["epochs"])

    def on_epoch_begin(self, epoch, logs=None):
        if self._position.batches_before:
            # Keras has reset the metrics, and other callbacks have begun the
            # same epoch a second time.
            self._restored.set_variables(self.model)
            self._restored.set_callbacks(self._callback_state)
        self._position.begin_epoch(epoch)
        self._intervals.begin_epoch()

    def on_train_batch_begin(self, batch, logs=None):
        self._intervals.begin_batch()

    def on_train_batch_end(self, batch, logs=None):
        self._logs = logs
        self._reader.prepare()
        self._position.end_batch()
        if not self._manager.is_writing:
            self._manager.wait()  # Reports the outcome.
        if self._intervals.is_due(self._manager.is_writing):
            self._begin_to_save()

    def on_test_begin(self, logs=None):
        self._position.begin_test()
        self._reader.begin_test()

    def on_test_end(self, logs=None):
        self._position.end_test()
        self._reader.end_test()

    def save(self) -> bool:
        """Writes a checkpoint now, during an epoch or its validation.

        Call it between two calls of the training function, for instance from
        another callback when a batch ends. It returns with the checkpoint on
        disk.

        Returns:
            bool, whether it was written.
        """
        return self._begin_to_save() and not self._manager.wait()

    def _begin_to_save(self):
        """Like `save`, but only starts; returns whether it is being written."""
        return self._write(
            [self._manager.newest], self._logs, self._position.in_epoch()
        )

    def on_epoch_end(self, epoch, logs=None):
        # The next best depends on whether the last was written.
        self._manager.wait()
        stores = []
        if self._manager.is_best((logs or {}).get(self.monitor), self.mode):
            # Written before the newest, which refers to it.
            stores.append(self._manager.best)
        is_last = epoch + 1 == self.params["epochs"] or self.model.stop_training
        if is_last or self._intervals.is_due_after(epoch):
            stores.append(self._manager.newest)
        if stores:
            self._write(stores, logs, self._position.after_epoch())

    def _write(self, stores, logs, position):
        """Starts writing a checkpoint in the background.

        Args:
            stores: list of `Store`s to write it to, one after the other.
            logs: dict, the logs of the epoch.
            position: dict, as returned by `TrainingPosition`.

        Returns:
            bool, whether it is being written.
        """
        self._intervals.restart()
        loss = (logs or {}).get("loss")
        if loss is not None and not np.all(np.isfinite(loss)):
            return False
        if not self._reader.are_weights_finite():
            return False
        self._manager.wait()
        best = self._manager.best_value
        if self._manager.best in stores:
            best = float(logs[self.monitor])
        arrays = []
        callbacks = self._callback_state.get(arrays)
        described = manifest.of_training(
            self.model, self._configured, position, best, callbacks, len(arrays)
        )
        try:
            described["logs"] = self._log_files.sizes()
            snapshot = Snapshot(self._reader.read(), described, arrays)
        except FAILURES as error:
            self._manager.report(stores[0], error)
            return False
        self._manager.write(snapshot, stores, self._log_files)
        return True


def _check_arguments(every_steps, every_minutes, every_epochs, keep, mode):
    for name, value, lowest in (
        ("every_steps", every_steps, 1), ("every_epochs", every_epochs, 1),
        ("keep", keep, 2),
    ):
        if value is not None and not value >= lowest:
            raise ValueError(
                f"`{name}` must be at least {lowest}. "
                f"Received: {name}={value!r}"
            )
    if every_minutes is not None and not every_minutes > 0:
        raise ValueError(
            f"`every_minutes` must be positive. Received: {every_minutes=}"
        )
    if mode not in ("min", "max"):
        raise ValueError(f"`mode` must be 'min' or 'max'. Received: {mode=}")
