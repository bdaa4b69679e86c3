"""The progress of training, on a terminal and in logs."""

import time

import keras

from trainers.command import live_line

# Seconds between two changes of the line.
_PAUSE = 0.5


class Progress(keras.callbacks.Callback):
    """Prints a line for each epoch, and shows the current iteration.

    The speed shown counts calls of the training function after the first,
    which includes tracing.

    Args:
        epochs: int.
        steps_per_epoch: int, iterations in an epoch.
        examples_per_epoch: int.
    """

    def __init__(self, epochs, steps_per_epoch, examples_per_epoch):
        super().__init__()
        self.epochs = epochs
        self.steps_per_epoch = steps_per_epoch
        self._examples_per_step = examples_per_epoch / steps_per_epoch
        self._text = ""
        self._changed = 0.0
        self._first = None  # Time and iteration after the first call.

    def _show(self, text):
        live_line.show(
            text, self.model.optimizer.global_step,
            self.epochs * self.steps_per_epoch,
        )

    def on_train_begin(self, logs=None):
        self._show("first call: building the graph")

    def on_epoch_begin(self, epoch, logs=None):
        self._text = f"epoch {epoch + 1}/{self.epochs}"

    def on_train_batch_end(self, batch, logs=None):
        now, step = time.monotonic(), self.model.optimizer.global_step
        if self._first is None:
            self._first = now, step
        if now - self._changed < _PAUSE:
            return
        self._changed = now
        text = f"{self._text}, loss {logs['loss']:.4f}"
        seconds, steps = now - self._first[0], step - self._first[1]
        if seconds > 0 and steps > 0:
            rate = steps * self._examples_per_step / seconds
            text += f", {rate:,.0f} examples/s"
        self._show(text)

    def on_test_begin(self, logs=None):
        self._paused = time.monotonic()
        self._show(f"{self._text}, testing")

    def on_test_end(self, logs=None):
        if self._first is not None:
            time_of, step = self._first
            self._first = time_of + time.monotonic() - self._paused, step

    def on_epoch_end(self, epoch, logs=None):
        perplexity = ""
        if "val_perplexity" in logs:
            perplexity = f"test perplexity {logs['val_perplexity']:.2f}, "
        print(
            f"epoch {epoch + 1:3d}/{self.epochs}: loss {logs['loss']:.4f}, "
            f"accuracy {logs['accuracy']:.2%}, "
            f"test loss {logs['val_loss']:.4f}, "
            f"test accuracy {logs['val_accuracy']:.2%}, {perplexity}"
            f"{logs['examples_per_second']:,.0f} examples/s",
            flush=True,
        )
