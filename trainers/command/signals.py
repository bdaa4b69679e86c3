"""Signals that end a run: the first gracefully, the second at once."""

import contextlib
import os
import signal
import threading

import keras

from trainers.command import errors

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

# The first signal noted by this process, for code that ends it otherwise.
_noted = []


def noted():
    """The signal that asked this process to end, int, or `None`."""
    return _noted[0] if _noted else None


class Signals:
    """Notes SIGTERM, SIGINT and SIGHUP; a second one ends the process.

    Python runs its own handlers only between calls into TensorFlow. A separate
    thread therefore reads each signal from a pipe, so that a second signal
    ends the process even within such a call.

    Attributes:
        received: int, the first signal, or `None`.
    """

    def __init__(self):
        self.received = None

    @contextlib.contextmanager
    def noted(self):
        """Notes signals inside the context, in place of their old handlers."""
        read, write = os.pipe()
        os.set_blocking(write, False)
        before = {
            signum: signal.signal(signum, lambda *_: None)
            for signum in _SIGNALS
            # Ignored signals stay ignored, as in a shell's background jobs.
            if signal.getsignal(signum) != signal.SIG_IGN
        }
        fd_before = signal.set_wakeup_fd(write)
        thread = threading.Thread(target=self._watch, args=[read], daemon=True)
        thread.start()
        try:
            yield
        finally:
            signal.set_wakeup_fd(fd_before)
            for signum, handler in before.items():
                signal.signal(signum, handler)
            os.close(write)  # Ends the thread.
            thread.join()
            os.close(read)

    def _watch(self, read):
        while numbers := os.read(read, 64):
            for signum in filter(_SIGNALS.__contains__, numbers):
                if self.received is not None:
                    os._exit(128 + signum)
                self.received = signum
                _noted.append(signum)
                print(
                    f"{signal.Signals(signum).name}: will write a checkpoint "
                    "after the current call and end; another signal ends the "
                    "run immediately",
                    flush=True,
                )


class StopOnSignal(keras.callbacks.Callback):
    """Writes a checkpoint after a signal and raises `errors.Interrupted`.

    Args:
        signals: `Signals`.
        checkpoints: `fr_keras.Checkpoints` of the same `fit`.
    """

    def __init__(self, signals, checkpoints):
        super().__init__()
        self._signals = signals
        self._checkpoints = checkpoints

    def on_train_batch_end(self, batch, logs=None):
        self._stop_if_asked()

    def on_test_batch_end(self, batch, logs=None):
        self._stop_if_asked()

    def _stop_if_asked(self):
        if self._signals.received is None:
            return
        name = signal.Signals(self._signals.received).name
        is_written = self._checkpoints.save()
        raise errors.Interrupted(
            self._signals.received,
            f"{name} after iteration {self.model.optimizer.global_step}; "
            + (
                "a checkpoint was written" if is_written
                else "no checkpoint could be written, the last one is older"
            ) + ". Repeat the command to resume from it",
        )
