"""Workers on this machine, on loopback, each on its own core."""

import contextlib
import subprocess
import sys
import threading
import time

from trainers.command import cores, errors
from trainers.workers import root

# Seconds before each restart after a quick death; no further ones follow.
_PAUSES = (0, 1, 2, 4, 8, 16)
# A worker that lived longer, in seconds, did not die at once.
_LONG = 60.0


class Worker:
    """A worker on loopback, restarted when it dies.

    Args:
        core: int, the number of its core.
        deterministic: bool, whether its computations are reproducible.
        allow_root: bool, whether it may run as root.

    Attributes:
        address: str, host:port.
        process: `subprocess.Popen`.

    Raises:
        UsageError: if it cannot be started.
    """

    def __init__(self, core, deterministic=False, allow_root=False):
        self._flags = [
            f"--cores={core}", f"--deterministic={deterministic}",
            f"--allow_root={allow_root}",
        ]
        self._port = 0
        self._over = threading.Event()
        self._starting = threading.Lock()
        self._start()
        self.address = f"127.0.0.1:{self._port}"
        threading.Thread(target=self._start_again, daemon=True).start()

    def _start(self):
        self.process = subprocess.Popen(
            [
                sys.executable, "-m", "trainers.worker", f"--port={self._port}",
                "--end_with_input", *self._flags,
            ],
            # The pipe is closed however this process ends.
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            # Ctrl-C is for the training, which needs workers in order to end.
            start_new_session=True,
        )
        line = self.process.stdout.readline()
        if "port" not in line:
            raise errors.UsageError("A worker could not be started")
        self._port = int(line.partition("port ")[2].partition(",")[0])

    def _start_again(self):
        """Restarts the worker when it dies, but not indefinitely."""
        quick_deaths = 0
        while True:
            begun = time.monotonic()
            self.process.wait()
            if time.monotonic() - begun > _LONG:
                quick_deaths = 0
            if self._over.is_set():
                return
            pid = self.process.pid
            if quick_deaths == len(_PAUSES):
                errors.tell(
                    f"The worker at {self.address} has died {quick_deaths + 1} "
                    "times, each soon after its start; it is not restarted"
                )
                return
            errors.tell(
                f"The worker at {self.address} has died (process {pid}); it is "
                "restarted"
            )
            if self._over.wait(_PAUSES[quick_deaths]):
                return
            quick_deaths += 1
            with self._starting:
                if not self._over.is_set():
                    with contextlib.suppress(errors.UsageError):
                        self._start()

    def stop(self):
        """Ends the worker."""
        self._over.set()
        with self._starting:  # Also ends one that is being started.
            self.process.kill()
        self.process.wait()


@contextlib.contextmanager
def started(count, deterministic=False):
    """Starts workers, and ends them afterwards.

    Args:
        count: int; workers share cores if there are not enough.
        deterministic: as for `Worker`.

    Yields:
        List of `Worker`.
    """
    available = cores.available()
    with contextlib.ExitStack() as stack:
        workers = []
        for i in range(count):
            core = available[i % len(available)]
            workers.append(Worker(core, deterministic, root.is_allowed()))
            stack.callback(workers[-1].stop)
        yield workers
