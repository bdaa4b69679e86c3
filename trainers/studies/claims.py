"""Files that only one of several processes creates."""

import contextlib
import fcntl
import os


@contextlib.contextmanager
def claimed(path):
    """Keeps other processes from creating the same file.

    Args:
        path: str.

    Yields:
        bool, whether to create the file here: no other process is creating it,
        and it does not exist.
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
