"""TensorBoard's event files, which rotate and survive a full disk."""

import contextlib
import logging
import os
import struct

import tensorflow as tf

from fr_keras.callbacks.checkpoints.store import reason

_logger = logging.getLogger("fr_keras")


class EventFiles(tf.summary.SummaryWriter):
    """Writes summaries into event files of limited size.

    TensorFlow's own writer does not report a full disk: it leaves a torn
    record, after which readers stop. Here files are checked when they are
    flushed; a torn end is truncated and reported once, and the next summaries
    go to a new file.

    Args:
        log_dir: str, the directory, created with the first file.
        max_bytes: int, the size from which a new file is started.
    """

    def __init__(self, log_dir, max_bytes=64 * 2**20):
        self.log_dir = log_dir
        self._max_bytes = max_bytes
        self._writer = None
        self._path = None
        self._checked = 0
        self._can_write = True

    @contextlib.contextmanager
    def as_default(self, step=None):
        writer = self._current()
        if writer is None:
            with tf.summary.record_if(False):
                yield
            return
        default = writer.as_default(step)
        default.__enter__()
        try:
            yield
        except (OSError, tf.errors.OpError) as error:
            self._fail(reason(error))
        finally:
            self._leave(default)

    def _leave(self, default):
        """Restores the default writer of before.

        TensorFlow's context flushes first; if that fails, it leaves its writer,
        which will be closed, as the default of all summaries that follow.
        """
        try:
            default.__exit__(None, None, None)
        except (OSError, tf.errors.OpError) as error:
            self._fail(reason(error))
            default.__exit__(None, None, None)  # A closed one flushes nothing.

    def set_as_default(self, step=None):
        raise NotImplementedError("Files rotate: use `as_default`.")

    def init(self):
        """Does nothing: files are created on demand."""

    def _current(self):
        """The writer of the current file, or `None` if it cannot be created."""
        if self._writer is None:
            try:
                before = self._names()
                self._writer = tf.summary.create_file_writer(self.log_dir)
                (name,) = self._names() - before
            except (OSError, tf.errors.OpError) as error:
                self._tell_once(reason(error))
                self._writer = None
                return None
            self._path = os.path.join(self.log_dir, name)
            self._checked = 0
        return self._writer

    def _names(self):
        try:
            return {*os.listdir(self.log_dir)}
        except FileNotFoundError:
            return set()

    def flush(self):
        if self._writer is None:
            return
        try:
            self._writer.flush()
            size = os.path.getsize(self._path)
            self._checked = _end_of_records(self._path, self._checked)
        except (OSError, tf.errors.OpError) as error:
            self._fail(reason(error))
            return
        if self._checked < size:
            self._fail("the disk may be full")
            return
        if not self._can_write:
            _logger.warning("Event files can be written again")
        self._can_write = True
        if size >= self._max_bytes:
            self._begin_anew()

    def close(self):
        self.flush()
        self._begin_anew()

    def _begin_anew(self):
        """Makes the next summary start a new file."""
        if self._writer is not None:
            self._writer.close()
        self._writer = None

    def _fail(self, why):
        """Truncates the file to whole records, and starts a new one."""
        self._tell_once(why)
        with contextlib.suppress(OSError, tf.errors.OpError):
            self._begin_anew()
        self._writer = None
        with contextlib.suppress(OSError):
            os.truncate(
                self._path, _end_of_records(self._path, self._checked)
            )

    def _tell_once(self, why):
        if self._can_write:
            _logger.warning(
                "Event files cannot be written to %s; training continues and "
                "writing will be retried: %s", self.log_dir, why,
            )
        self._can_write = False


class RunFiles:
    """The event files of a model, and of each of its modules.

    TensorBoard gives a colour to each directory.

    Args:
        log_dir: str, the directory of those of the model; those of module 2 are
            in its directory `module_2`.
        num_modules: int, K.

    Attributes:
        writers: dict from the numbers of modules, from 1, and `None` for the
            model, to `EventFiles`.
    """

    def __init__(self, log_dir, num_modules):
        self.writers = {None: EventFiles(log_dir)} | {
            k: EventFiles(os.path.join(log_dir, f"module_{k}"))
            for k in range(1, num_modules + 1)
        }

    def __call__(self, module=None):
        return self.writers[module]

    @property
    def directories(self):
        """List of str."""
        return [writer.log_dir for writer in self.writers.values()]


def _end_of_records(path, start):
    """The end of the last whole record of an event file.

    Args:
        path: str.
        start: int, offset at which a record begins.

    Returns:
        int, an offset.
    """
    # A record: its length, a checksum of that, the data, their checksum.
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        while True:
            file.seek(start)
            header = file.read(8)
            if len(header) < 8:
                return start
            end = start + 8 + 4 + struct.unpack("<Q", header)[0] + 4
            if end > size:
                return start
            start = end
