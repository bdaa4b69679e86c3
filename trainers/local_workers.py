"""Workers on this machine, on loopback, each on a core of its own."""

import contextlib
import subprocess
import sys
import threading

from trainers import cores, errors


class Worker:
    """A worker on loopback, started again when it dies.

    Args:
        core: int, the number of the core that it runs on.
        deterministic: bool, whether it computes the same twice.

    Attributes:
        address: str, host:port.
        process: `subprocess.Popen`.

    Raises:
        UsageError: if it cannot be started.
    """

    def __init__(self, core, deterministic=False):
        self._flags = [f"--cores={core}", f"--deterministic={deterministic}"]
        self._port = 0
        self._over = False
        self._start()
        self.address = f"127.0.0.1:{self._port}"
        threading.Thread(target=self._start_again, daemon=True).start()

    def _start(self):
        self.process = subprocess.Popen(
            [
                sys.executable, "-m", "trainers.worker", f"--port={self._port}",
                "--end_with_input", *self._flags,
            ],
            # However this process ends, its end of the pipe is closed.
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            # Ctrl-C is for the training, which needs the workers to end.
            start_new_session=True,
        )
        line = self.process.stdout.readline()
        if "port" not in line:
            raise errors.UsageError("A worker could not be started")
        self._port = int(line.partition("port ")[2].partition(",")[0])

    def _start_again(self):
        while True:
            self.process.wait()
            if self._over:
                return
            errors.tell(
                f"The worker at {self.address} has died (process "
                f"{self.process.pid}); it is started again"
            )
            with contextlib.suppress(errors.UsageError):
                self._start()

    def stop(self):
        """Ends it."""
        self._over = True
        self.process.kill()
        self.process.wait()


@contextlib.contextmanager
def started(count, deterministic=False):
    """Starts workers, and ends them afterwards.

    Args:
        count: int; they share the cores if there are not enough.
        deterministic: as for `Worker`.

    Yields:
        List of `Worker`.
    """
    available = cores.available()
    with contextlib.ExitStack() as stack:
        workers = []
        for i in range(count):
            core = available[i % len(available)]
            workers.append(Worker(core, deterministic))
            stack.callback(workers[-1].stop)
        yield workers
