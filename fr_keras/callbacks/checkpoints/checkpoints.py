"""The callback that keeps checkpoints, and goes on from the newest."""

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
    """Keeps checkpoints of the whole training, and goes on from the newest.

    A training that ends at any moment, and is started again by the same
    program with the same directory, goes on where its newest checkpoint was
    written, in the middle of an epoch too, and ends with the same weights, bit
    for bit, as if it had never been interrupted. Kept are weights, the state
    of optimizers and learning rate, *replay queues and error gradients*, the
    warm-up, random numbers, metrics, the position in the data, and the state
    of the other callbacks (see `callback_state.py` beside this file).

    For the very same weights, the data must be a function of their seeds:
    arrays after `keras.utils.set_random_seed`, or a `tf.data.Dataset` whose
    `shuffle` and random maps have seeds; and TensorFlow must compute the same
    twice, which `tf.config.experimental.enable_op_determinism()` promises.

    Checkpoints are TensorFlow's (`tf.train.Checkpoint`). They are written by a
    thread of its own while training goes on: training waits only while all is
    copied to the host, for which there must be memory, and for the checkpoint
    before if that is still being written; `fit` does not end before the last
    one is whole. A new one is complete, and on the disk, before an old one is
    deleted. If the newest cannot be read, the one before is used, and a warning
    says so; if none can be, `fit` raises an error and leaves all as it is. If
    one cannot be written, on a full disk for instance, training goes on, a
    warning says so once, and it is tried again when the next is due. Nothing is
    written of a training whose loss or weights are not finite.

    One directory belongs to one training. TensorBoard's event files and the
    files of CSVLogger (with `append=True`) are cut back to the checkpoint, so
    that no step is logged twice.

    Args:
        directory: str or path. The best checkpoint lies in `best` below it.
        every_steps: int, iterations from one checkpoint to the next, or
            `None`. They are written between two calls of the training
            function.
        every_minutes: float, minutes from one checkpoint to the next, or
            `None`; longer if the one before is still being written.
        every_epochs: int, epochs from one checkpoint to the next, or `None`;
            there is one at the end of the last epoch in any case.
        keep: int, how many are kept, at least 2, so that there is one before
            the newest.
        monitor: str, the log by which an epoch is the best so far, whose
            checkpoint is kept beside the newest; `None` for no best.
        mode: "min" or "max", whether less or more is better.
        logs: list of files, and directories of event files, that grow with
            the training beside those of Keras' callbacks.

    Attributes:
        restored: str, the checkpoint from which the last `fit` went on, or
            `None` if it began anew.
        best: float, the best value of `monitor`, or `None`.

    Raises:
        ValueError: for arguments out of range; when `fit` is called, if the
            model is run eagerly, has no optimizer, or is of an algorithm
            that does not name its state.
        CheckpointError: when `fit` is called, if there are checkpoints but
            none can be read, or the newest is of another network, optimizer,
            number of modules, algorithm or format.

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
            # Before a callback opens them again.
            self._log_files.cut_back(self._restored.manifest["logs"])
        if not self._log_files:
            return
        try:
            writers.note()
        except OSError as error:
            self._writer.tell(self._newest, error)

    def after_fit(self):
        """Waits for what is being written."""
        self._finish()

    def on_train_begin(self, logs=None):
        self._callback_state = CallbackState(self._others)
        self._last_save = time.monotonic()
        self._data = DataPosition(self.model.epoch_iterator)
        self._weights = None
        if self._restored is None:
            return
        manifest = self._restored.manifest
        # Other callbacks may have unmade what was built; and it may be that no
        # batch comes any more.
        self.model.prepare(BatchSpec.from_string(manifest["batch_spec"]))
        position = manifest["position"]
        self._restored.set_callbacks(self._callback_state)
        self._position = position["data"]
        self._data.set(position["data"], position["batch"])
        self._batches_before = position["batch"]
        # A training that a callback has stopped is over.
        private.set_initial_epoch(
            self.model,
            self.params["epochs"] if position["stopped"] else position["epoch"],
        )

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch
        if self._batches_before:
            # Keras has reset the metrics, and other callbacks have begun an
            # epoch that they had begun before.
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
            self._finish()  # Tells what became of it.
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
        # Metrics are about to count what is tested.
        self._counted = self._metrics_reader.read(self._metrics())

    def on_test_end(self, logs=None):
        self._is_testing = False
        self._counted = None

    def _metrics(self):
        variables = training_state.variables(self.model)
        return {"metrics": variables["metrics"]}

    def save(self) -> bool:
        """Writes a checkpoint now, in an epoch or its validation.

        Between two calls of the training function, that is; other callbacks
        may ask for it when a batch ends. It is on the disk when this returns.

        Returns:
            bool, whether it was written.
        """
        return self._begin_to_save() and not self._finish()

    def _begin_to_save(self):
        """As `save`, but returns whether it is being written."""
        batch = self._step() - self._first_step
        # While it tests, Keras has begun the data of the next epoch.
        position = self._position if self._is_testing else self._data.get()
        return self._write(
            [self._newest], self._logs, self._epoch, batch, position
        )

    def on_epoch_end(self, epoch, logs=None):
        # Whether the best so far was written matters to the next.
        self._finish()
        stores = []
        if self._is_best(logs or {}):
            # Before the newest, which says that it is there.
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
        """Has a checkpoint written, in the background.

        Args:
            stores: list of `Store`s to write it to, one after the other.
            logs: dict, the logs of the epoch.
            epoch: int, where training would go on: the epoch,
            batch: int, the mini-batch in it,
            position: and where its data are.

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
            "batch_spec": self.model.batch_spec.to_string(),
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
            if self._counted is not None:  # Metrics count what is tested.
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
        """Waits for what is being written; returns whether that failed."""
        failed = self._writer.finish()
        if self._best in failed:
            self.best = self._best_before
        return bool(failed)

    def _prepare(self):
        """Traces what looks at the model: it is built, and workers are there.
        """
        if self._weights is None:
            self._weights = keepable.Weights(self.model)
            self._reader.prepare(training_state.variables(self.model))
            self._metrics_reader.prepare(self._metrics())

    def _step(self):
        """The number of iterations of the training."""
        return self.model.optimizer.global_step
