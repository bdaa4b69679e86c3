"""Files that a power cut does not take away."""

import os


def sync(path):
    """Waits until a file, or the names in a directory, are on the disk.

    Until then the system may hold them back for half a minute, and a machine
    that loses power comes up with empty files. (Whoever replaces a file must
    wait for the new one before the old one is gone.)

    Args:
        path: str or path.

    Raises:
        OSError: if it is not there, or the disk fails.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_directory(path):
    """Makes a directory and those that lead to it, all of them to stay.

    Args:
        path: str or path.

    Raises:
        OSError: if it cannot be made.
    """
    path = os.path.abspath(path)
    missing = []
    above = path
    while not os.path.isdir(above):
        missing.append(above)
        above = os.path.dirname(above)
    os.makedirs(path, exist_ok=True)
    for made in missing:
        sync(os.path.dirname(made))
