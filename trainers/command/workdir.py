"""The working directory of a command, where nothing is overwritten."""

import contextlib
import fcntl
import os
import tempfile

from fr_keras.callbacks.checkpoints import durable
from trainers.command import errors

FLAG_FILE = "flags.cfg"
CHECKPOINTS = "checkpoints"

# Prefix of files that are not completely written yet.
_PART = "part_of_"
# Locked by the process that uses the directory.
_LOCK = ".lock"


@contextlib.contextmanager
def taken(path):
    """Creates a working directory and locks it for this process.

    Args:
        path: str, --workdir, without `~`.

    Yields:
        bool, whether it holds a run. If not, it is empty.

    Raises:
        UsageError: if the directory holds something else, cannot be written
            to, or is in use by another process.
    """
    try:
        durable.make_directory(path)
        check_links(path)
        _holds_run(path)  # Leaves nothing in an unrelated directory.
        lock = _locked(os.path.join(path, _LOCK))
    except BlockingIOError:
        raise errors.UsageError(
            f"--workdir is in use by another process: {path}"
        ) from None
    except OSError as error:
        raise _unwritable(error) from error
    try:
        yield _holds_run(path)
    finally:
        with contextlib.suppress(OSError, errors.UsageError):
            if not _names(path):  # Still empty.
                os.remove(os.path.join(path, _LOCK))
        os.close(lock)


def _locked(path):
    """Locks a file, creating it if necessary.

    Returns:
        int, the descriptor; closing it releases the lock.

    Raises:
        BlockingIOError: if another process has locked it.
        OSError: if it cannot be opened.
    """
    while True:
        lock = os.open(
            path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644
        )
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # (The last owner may have removed it before releasing it.)
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(lock), os.stat(path)):
                    return lock
        except BlockingIOError:
            os.close(lock)
            raise
        except OSError as error:  # Some disks have no locks.
            errors.tell(
                f"--workdir cannot be locked: {error}. Make sure that no other "
                f"run uses {os.path.dirname(path)}"
            )
            return lock
        os.close(lock)


def check_links(path):
    """Refuses links in a directory, since files elsewhere would be written.

    Args:
        path: str, --workdir.

    Raises:
        UsageError: if there are any.
    """
    for folder, folders, names in os.walk(path):
        for name in (*folders, *names):
            link = os.path.join(folder, name)
            if os.path.islink(link):
                raise errors.UsageError(
                    "--workdir must not contain symbolic links, since their "
                    f"targets would be overwritten. Received: {link} -> "
                    f"{os.readlink(link)}"
                )


def make(path):
    """Creates a working directory, which must be new or empty.

    Args:
        path: str, --workdir; `~` is the user's home.

    Returns:
        str, the path without `~`.

    Raises:
        UsageError: if the directory is not empty, or cannot be written to.
    """
    path = os.path.expanduser(path)
    try:
        durable.make_directory(path)
        check_links(path)
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
    """Lists a directory; raises OSError if it cannot be written to."""
    tempfile.TemporaryFile(dir=path).close()
    return [
        n for n in os.listdir(path)
        if not n.startswith(_PART) and n != _LOCK
    ]


def _holds_run(path):
    try:
        names = _names(path)
    except OSError as error:
        raise _unwritable(error) from error
    if names and FLAG_FILE not in names:
        raise errors.UsageError(
            "--workdir must be new, empty or that of the same run, so that "
            f"nothing is overwritten. Received: {path}"
        )
    return bool(names)


def _unwritable(error):
    return errors.UsageError(f"--workdir cannot be written to: {error}")


@contextlib.contextmanager
def replaced(path):
    """Yields a path to write to, which becomes `path` once it is complete.

    Args:
        path: str.

    Raises:
        OSError: if it cannot be written; the old file remains.
    """
    folder, name = os.path.split(path)
    part = os.path.join(folder, _PART + name)
    # Left by a killed process. The target of a link is left alone.
    with contextlib.suppress(FileNotFoundError):
        os.remove(part)
    try:
        yield part
        durable.sync(part)
        os.replace(part, path)
        durable.sync(folder or ".")
    except BaseException:
        with contextlib.suppress(OSError):
            os.remove(part)
        raise


@contextlib.contextmanager
def whole_file(path):
    """As `replaced`, for a file that a command requires.

    Raises:
        UsageError: if it cannot be written.
    """
    try:
        with replaced(path) as part:
            yield part
    except OSError as error:
        raise errors.UsageError(f"{path} cannot be written: {error}") from error
