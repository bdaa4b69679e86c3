"""The position of a training, from which it resumes."""

from fr_keras.callbacks.checkpoints.data_position import DataPosition
from fr_keras.engine import private


class TrainingPosition:
    """The position of a call of `fit`: epoch, mini-batch and data.

    Args:
        model: algorithm, whose `fit` has not begun its first epoch.

    Attributes:
        batches_before: int, the number of mini-batches of the next epoch that
            were trained on before an interruption.
    """

    def __init__(self, model):
        self._model = model
        self._data = DataPosition(model.epoch_iterator)
        self._after_batch = None
        self._is_testing = False
        self._epoch = 0
        self.batches_before = 0

    def set(self, position, epochs):
        """Lets `fit` start where another was interrupted.

        Args:
            position: as returned by `in_epoch` or `after_epoch`.
            epochs: int, the number of epochs of this call of `fit`.
        """
        self._after_batch = position["data"]
        self._data.set(position["data"], position["batch"])
        self.batches_before = position["batch"]
        # Training that was stopped by a callback is over.
        private.set_initial_epoch(
            self._model, epochs if position["stopped"] else position["epoch"]
        )

    def begin_epoch(self, epoch):
        """To be called when an epoch begins, with the state restored."""
        self._epoch = epoch
        self._first_step = self._step() - self.batches_before
        self.batches_before = 0

    def end_batch(self):
        """To be called after each call of the training function."""
        self._after_batch = self._data.get()

    def begin_test(self):
        """To be called when validation begins."""
        self._is_testing = True

    def end_test(self):
        """To be called when validation ends."""
        self._is_testing = False

    def in_epoch(self):
        """Returns the position during an epoch or its validation.

        Returns:
            Dict for JSON.
        """
        # During validation, Keras has begun the data of the next epoch.
        data = self._after_batch if self._is_testing else self._data.get()
        return self._at(self._epoch, self._step() - self._first_step, data)

    def after_epoch(self):
        """Returns the position at the end of an epoch, as `in_epoch` does."""
        return self._at(self._epoch + 1, 0, self._data.get())

    def _at(self, epoch, batch, data):
        return {
            "step": self._step(),
            "epoch": epoch,
            "batch": batch,
            "data": data,
            "stopped": bool(not batch and self._model.stop_training),
        }

    def _step(self):
        """The number of iterations of the training."""
        return self._model.optimizer.global_step
