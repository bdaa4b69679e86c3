"""Files that survive a power failure."""

import os


def sync(path):
    """Waits until a file, or the entries of a directory, are on disk.

    Otherwise the system may hold them back for half a minute, and a machine
    that loses power comes up with empty files. (When replacing a file, wait
    for the new one before removing the old one.)

    Args:
        path: str or path.

    Raises:
        OSError: if it does not exist, or the disk fails.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_directory(path):
    """Durably creates a directory and its parents.

    Args:
        path: str or path.

    Raises:
        OSError: if it cannot be created.
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
