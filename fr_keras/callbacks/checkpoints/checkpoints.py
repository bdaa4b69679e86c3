"""The callback that writes checkpoints and resumes from the newest."""

import logging
import math
import os
import time
from collections.abc import Sequence

import numpy as np

from fr_keras.algorithms.resuming import ResumingCallback
from fr_keras.batches.batch_spec import BatchSpec
from fr_keras.callbacks.checkpoints import (
    configuration,
    keepable,
    restoring,
    store,
    training_state,
)
from fr_keras.callbacks.checkpoints.background import FAILURES, BackgroundWriter
from fr_keras.callbacks.checkpoints.callback_state import CallbackState
from fr_keras.callbacks.checkpoints.data_position import DataPosition
from fr_keras.callbacks.checkpoints.log_files import LogFiles
from fr_keras.callbacks.checkpoints.snapshot import Reader, Snapshot
from fr_keras.callbacks.checkpoints.writers import Writers
from fr_keras.engine import private
from fr_keras.engine.recording import check_is_algorithm
from fr_keras.versions import versions

_logger = logging.getLogger("fr_keras")


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
            raise ValueError(
                f"`mode` must be 'min' or 'max'. Received: {mode=}"
            )
        self.every_steps = every_steps
        self.every_minutes = every_minutes
        self.every_epochs = every_epochs
        self.monitor = monitor
        self.mode = mode
        self.logs = logs
        self.restored = None
        self.best = None
        self._newest = store.Store(directory, keep)
        best = os.path.join(self._newest.directory, "best")
        self._best = store.Store(best, 1)
        self._writer = BackgroundWriter()

    def set_model(self, model):
        check_is_algorithm(model, self)
        super().set_model(model)

    def before_fit(self, model, others):
        """Restores the newest checkpoint."""
        keepable.check_model(model)
        self.restored = self.best = self._restored = None
        self._others = others
        self._best_before = None
        writers = Writers(self._newest.directory)
        self._log_files = LogFiles(self.logs, others, writers)
        self._position = None
        self._is_testing = False
        self._epoch = self._batches_before = 0
        self._logs = None
        self._counted = None
        self._reader, self._metrics_reader = Reader(), Reader()
        # Now, since callbacks may change the optimizer later.
        self._configured = configuration.of_training(model)
        self._restored = restoring.restore_newest(
            model, [self._best, self._newest], self._configured
        )
        if self._restored is not None:
            self.restored = self._restored.prefix
            self.best = self._restored.manifest["best"]
            # Done before a callback opens them again.
            self._log_files.cut_back(self._restored.manifest["logs"])
        if not self._log_files:
            return
        try:
            writers.note()
        except OSError as error:
            self._writer.tell(self._newest, error)

    def after_fit(self):
        """Waits for the write in progress."""
        self._finish()

    def on_train_begin(self, logs=None):
        self._callback_state = CallbackState(self._others)
        self._last_save = time.monotonic()
        self._data = DataPosition(self.model.epoch_iterator)
        self._weights = None
        if self._restored is None:
            return
        manifest = self._restored.manifest
        # Other callbacks may have discarded what was built, and there may be
        # no further batch.
        self.model.training.prepare(BatchSpec.from_string(manifest["batch_spec"]))
        position = manifest["position"]
        self._restored.set_callbacks(self._callback_state)
        self._position = position["data"]
        self._data.set(position["data"], position["batch"])
        self._batches_before = position["batch"]
        # Training that was stopped by a callback is over.
        private.set_initial_epoch(
            self.model,
            self.params["epochs"] if position["stopped"] else position["epoch"],
        )

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch
        if self._batches_before:
            # Keras has reset the metrics, and other callbacks have begun the
            # same epoch a second time.
            self._restored.set_variables(self.model)
            self._restored.set_callbacks(self._callback_state)
        self._first_step = self._step() - self._batches_before
        self._batches_before = 0

    def on_train_batch_begin(self, batch, logs=None):
        self._before = self._step()

    def on_train_batch_end(self, batch, logs=None):
        self._logs = logs
        self._prepare()
        self._position = self._data.get()
        if not self._writer.is_writing:
            self._finish()  # Reports the outcome.
        if self._is_due():
            self._begin_to_save()

    def _is_due(self):
        if self.every_steps and (
            self._step() // self.every_steps
            > self._before // self.every_steps
        ):
            return True
        if not self.every_minutes or self._writer.is_writing:
            return False
        return time.monotonic() - self._last_save >= 60 * self.every_minutes

    def on_test_begin(self, logs=None):
        self._is_testing = True
        # Metrics are about to count validation data.
        self._counted = self._metrics_reader.read(self._metrics())

    def on_test_end(self, logs=None):
        self._is_testing = False
        self._counted = None

    def _metrics(self):
        variables = training_state.variables(self.model)
        return {"metrics": variables["metrics"]}

    def save(self) -> bool:
        """Writes a checkpoint now, during an epoch or its validation.

        Call it between two calls of the training function, for instance from
        another callback when a batch ends. It returns with the checkpoint on
        disk.

        Returns:
            bool, whether it was written.
        """
        return self._begin_to_save() and not self._finish()

    def _begin_to_save(self):
        """Like `save`, but only starts; returns whether it is being written."""
        batch = self._step() - self._first_step
        # During validation, Keras has begun the data of the next epoch.
        position = self._position if self._is_testing else self._data.get()
        return self._write(
            [self._newest], self._logs, self._epoch, batch, position
        )

    def on_epoch_end(self, epoch, logs=None):
        # The next best depends on whether the last was written.
        self._finish()
        stores = []
        if self._is_best(logs or {}):
            # Written before the newest, which refers to it.
            stores.append(self._best)
        is_last = epoch + 1 == self.params["epochs"] or self.model.stop_training
        if is_last or (
            self.every_epochs and (epoch + 1) % self.every_epochs == 0
        ):
            stores.append(self._newest)
        if stores:
            self._write(stores, logs, epoch + 1, 0, self._data.get())

    def _is_best(self, logs):
        """Whether an epoch is the best so far."""
        value = logs.get(self.monitor)
        if value is None or not math.isfinite(value):
            return False
        return self.best is None or (
            value < self.best if self.mode == "min" else value > self.best
        )

    def _write(self, stores, logs, epoch, batch, position):
        """Starts writing a checkpoint in the background.

        Args:
            stores: list of `Store`s to write it to, one after the other.
            logs: dict, the logs of the epoch.
            epoch: int, the epoch in which training would resume.
            batch: int, the mini-batch of this epoch.
            position: the position in the data.

        Returns:
            bool, whether it is being written.
        """
        self._last_save = time.monotonic()
        loss = (logs or {}).get("loss")
        if loss is not None and not np.all(np.isfinite(loss)):
            return False
        self._prepare()
        if not self._weights.are_finite():
            return False
        self._finish()
        self._best_before = self.best
        if self._best in stores:
            self.best = float(logs[self.monitor])
        arrays = []
        manifest = {
            "format": training_state.FORMAT,
            "versions": versions(),
            "position": {
                "step": self._step(),
                "epoch": epoch,
                "batch": batch,
                "data": position,
                "stopped": bool(not batch and self.model.stop_training),
            },
            "best": self.best,
            "batch_spec": self.model.training.batch_spec.to_string(),
            "model": training_state.describe(self.model),
            "configuration": configuration.complete(
                self._configured, self.model
            ),
            "callbacks": self._callback_state.get(arrays),
        }
        manifest["num_arrays"] = len(arrays)
        try:
            manifest["logs"] = self._log_files.sizes()
            values = self._reader.read(training_state.variables(self.model))
            if self._counted is not None:  # Metrics count validation data.
                values.update(self._counted)
            snapshot = Snapshot(values, manifest, arrays)
        except FAILURES as error:
            self._writer.tell(stores[0], error)
            self.best = self._best_before
            return False
        self._writer.start(lambda: self._write_to(stores, snapshot))
        return True

    def _write_to(self, stores, snapshot):
        """Writes a checkpoint; returns what failed, for `BackgroundWriter`."""
        failed = {}
        for where in stores:
            try:
                self._log_files.sync(snapshot.manifest["logs"])
                where.write(snapshot)
            except FAILURES as error:
                failed[where] = error
                if where is self._best:
                    snapshot.manifest["best"] = self._best_before
        return failed

    def _finish(self):
        """Waits for the write in progress; returns whether it failed."""
        failed = self._writer.finish()
        if self._best in failed:
            self.best = self._best_before
        return bool(failed)

    def _prepare(self):
        """Traces functions that read the model, which is built by now.

        All workers still respond at this point.
        """
        if self._weights is None:
            self._weights = keepable.Weights(self.model)
            self._reader.prepare(training_state.variables(self.model))
            self._metrics_reader.prepare(self._metrics())

    def _step(self):
        """The number of iterations of the training."""
        return self.model.optimizer.global_step
