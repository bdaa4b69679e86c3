"""The working directory of a command, in which nothing is overwritten."""

import contextlib
import os

from trainers import errors


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
        if os.listdir(path):
            raise errors.UsageError(
                "--workdir must be new or empty, so that no other run is "
                f"overwritten. Received: {path}"
            )
        probe = os.path.join(path, "probe")
        open(probe, "w").close()
        os.remove(probe)
    except OSError as error:
        raise errors.UsageError(
            f"--workdir cannot be written to: {error}"
        ) from error
    return path


@contextlib.contextmanager
def whole_file(path):
    """Gives a path to write to, which becomes `path` once all is written.

    Args:
        path: str.

    Raises:
        UsageError: if it cannot be written.
    """
    folder, name = os.path.split(path)
    part = os.path.join(folder, f"part_of_{name}")
    try:
        yield part
        os.replace(part, path)
    except OSError as error:
        raise errors.UsageError(f"{path} cannot be written: {error}") from error
