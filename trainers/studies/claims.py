"""Files that one of several processes makes."""

import contextlib
import fcntl
import os


@contextlib.contextmanager
def claimed(path):
    """Keeps other processes off what is to become a file.

    Args:
        path: str.

    Yields:
        bool, whether the file is to be made here: no other process is at it,
        and it is not there.
    """
    folder, name = os.path.split(path)
    of_part = os.path.join(
        folder, f"part_of_{os.path.splitext(name)[0]}.lock"
    )
    with open(of_part, "a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield not os.path.exists(path)
        os.remove(of_part)
