"""The working directory of a command, in which nothing is overwritten."""

import contextlib
import fcntl
import os
import tempfile

from trainers import errors

FLAG_FILE = "flags.cfg"
CHECKPOINTS = "checkpoints"

# What the names of files begin with that are not written whole yet.
_PART = "part_of_"


@contextlib.contextmanager
def taken(path):
    """Makes a working directory and takes it for this process.

    Args:
        path: str, --workdir, without `~`.

    Yields:
        bool, whether it holds a run. If not, it is empty.

    Raises:
        UsageError: if the directory holds something else, cannot be written
            to, or another process has taken it.
    """
    try:
        os.makedirs(path, exist_ok=True)
        lock = os.open(path, os.O_RDONLY)
    except OSError as error:
        raise _unwritable(error) from error
    try:
        with contextlib.suppress(OSError):  # There are disks without locks.
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise errors.UsageError(
                    f"--workdir is in use by another process: {path}"
                ) from None
        yield _holds_run(path)
    finally:
        os.close(lock)


def make(path):
    """Makes a working directory, which must not hold anything yet.

    Args:
        path: str, --workdir; `~` is the user's home.

    Returns:
        str, the path without `~`.

    Raises:
        UsageError: if the directory holds something, or cannot be written to.
    """
    path = os.path.expanduser(path)
    try:
        os.makedirs(path, exist_ok=True)
        names = _names(path)
    except OSError as error:
        raise _unwritable(error) from error
    if names:
        raise errors.UsageError(
            "--workdir must be new or empty, so that no other run is "
            f"overwritten. Received: {path}"
        )
    return path


def _names(path):
    """What a directory holds; OSError if it cannot be written to."""
    tempfile.TemporaryFile(dir=path).close()
    return [n for n in os.listdir(path) if not n.startswith(_PART)]


def _holds_run(path):
    try:
        names = _names(path)
    except OSError as error:
        raise _unwritable(error) from error
    if names and FLAG_FILE not in names:
        raise errors.UsageError(
            "--workdir must be new or empty, or that of the same run, so that "
            f"nothing is overwritten. Received: {path}"
        )
    return bool(names)


def _unwritable(error):
    return errors.UsageError(f"--workdir cannot be written to: {error}")


@contextlib.contextmanager
def replaced(path):
    """Gives a path to write to, which becomes `path` once all is written.

    Args:
        path: str.

    Raises:
        OSError: if it cannot be written; what was there still is.
    """
    folder, name = os.path.split(path)
    part = os.path.join(folder, _PART + name)
    try:
        yield part
        os.replace(part, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.remove(part)
        raise


@contextlib.contextmanager
def whole_file(path):
    """As `replaced`, for a file that a command cannot do without.

    Raises:
        UsageError: if it cannot be written.
    """
    try:
        with replaced(path) as part:
            yield part
    except OSError as error:
        raise errors.UsageError(f"{path} cannot be written: {error}") from error
