"""File systems for tests, in files and in memory."""

import contextlib
import os
import shutil
import subprocess


class Impossible(Exception):
    """What only root can do, or a system does not offer."""


@contextlib.contextmanager
def mounted(what, at, *options):
    """Mounts something, and takes it away in the end.

    Args:
        what: what `mount` takes, like the path of a file made by `image`.
        at: path, a directory, made if it is not there.
        *options: str, for `mount`.

    Yields:
        path, `at`.

    Raises:
        Impossible: if it cannot be mounted here.
    """
    at.mkdir(exist_ok=True)
    if os.geteuid() != 0 or shutil.which("mount") is None:
        raise Impossible("only root can mount a file system")
    done = subprocess.run(
        ["mount", *options, what, at], capture_output=True, text=True,
        check=False,
    )
    if done.returncode:
        raise Impossible(f"nothing can be mounted here: {done.stderr.strip()}")
    try:
        yield at
    finally:
        subprocess.run(["umount", "--lazy", at], check=True)


def image(path, megabytes=128):
    """Makes a file that is a disk, with an empty ext4.

    Raises:
        Impossible: if there is no mkfs.ext4.
    """
    if shutil.which("mkfs.ext4") is None:
        raise Impossible("there is no mkfs.ext4")
    path.touch()
    os.truncate(path, megabytes * 2**20)
    subprocess.run(["mkfs.ext4", "-q", path], check=True)
