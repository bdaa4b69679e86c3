"""Records the processes of a training, which identify its event files."""

import json
import os
import re
import socket
import time

from fr_keras.callbacks.checkpoints import durable

_NAME = "processes"


class Writers:
    """The processes in which a training has run, noted beside its checkpoints.

    Names of TensorBoard event files contain the time, the machine and the
    process, which tells them from those of other trainings in the same
    directory.

    Args:
        directory: str, the directory of the checkpoints.
    """

    def __init__(self, directory):
        self._path = os.path.join(directory, _NAME)
        self._known = None

    def note(self):
        """Notes this process, before it writes anything.

        Raises:
            OSError: if it cannot be noted.
        """
        durable.make_directory(os.path.dirname(self._path))
        entry = [socket.gethostname(), os.getpid(), int(time.time())]
        with open(self._path, "a") as file:
            file.write(json.dumps(entry) + "\n")
        durable.sync(self._path)
        self._known = None

    def have_written(self, name):
        """Whether an event file was written by one of the processes.

        Args:
            name: str, the name of the file.

        Returns:
            bool.
        """
        found = re.match(
            r"events\.out\.tfevents\.(\d+)\.(.+)\.(\d+)\.\d+(\.|$)", name
        )
        if found is None:
            return False
        when, host, process = int(found[1]), found[2], int(found[3])
        return any(
            host == noted_host and process == pid and when >= since
            for noted_host, pid, since in self._noted()
        )

    def _noted(self):
        if self._known is None:
            self._known = []
            try:
                with open(self._path, errors="replace") as file:
                    for line in file:
                        self._known += _entry(line)
            except OSError:
                pass  # The training is older than these notes.
        return self._known


def _entry(line):
    """Returns a list with the entry of a line, empty if it is torn."""
    try:
        _, pid, since = entry = json.loads(line)
    except (TypeError, ValueError):
        return []
    return [entry] if type(pid) is type(since) is int else []
