"""Watches workers while a program waits for their results."""

import threading
from collections.abc import Callable, Sequence

from fr_keras.cluster.status import WorkerError, ask


class Watch:
    """Checks every two seconds, by default, that workers still answer.

    TensorFlow waits forever for a worker that hangs, and reports for one that
    died only the data it was about to send. This reports which worker it is.

    Args:
        workers: list of str, the addresses passed to `connect`.
        patience: float, seconds that a worker may take to answer.
        every: float, seconds between checks.

    Example:

    ```python
    watch = fr_keras.cluster.Watch(workers)
    watch.start(lambda loss: (print(loss, flush=True), os._exit(1)))
    ```
    """

    def __init__(
        self, workers: Sequence[str], patience: float = 60.0,
        every: float = 2.0,
    ) -> None:
        self._workers = list(workers)
        self._patience = patience
        self._every = every
        self._over = threading.Event()
        self._before = [
            self._devices_at_start(task) for task in range(len(self._workers))
        ]

    def start(self, on_loss: Callable[[], object]) -> None:
        """Starts watching, with one thread per worker.

        Args:
            on_loss: callable, called once, in one of these threads, with a
                message that names the lost worker and the cause.
        """
        once = threading.Lock()

        def watch(task):
            while not self._over.wait(self._every):
                loss = self._loss(task)
                if loss and once.acquire(blocking=False):
                    on_loss(loss)

        for task in range(len(self._workers)):
            threading.Thread(target=watch, args=[task], daemon=True).start()

    def stop(self) -> None:
        """Stops watching."""
        self._over.set()

    def lost(self) -> str | None:
        """Returns which worker is lost, and how, or `None` if all answer."""
        return next(
            filter(None, map(self._loss, range(len(self._workers)))), None
        )

    def _devices_at_start(self, task):
        address = self._workers[task]
        try:
            return ask(address, self._patience).devices
        except WorkerError as error:
            raise WorkerError(
                f"Worker {task} at {address} must answer before it is watched. "
                f"Received: {error}"
            ) from error

    def _loss(self, task):
        address = self._workers[task]
        try:
            devices = ask(address, self._patience).devices
        except WorkerError as error:
            return f"Worker {task} at {address} is lost: {error}"
        if devices != self._before[task]:
            return f"Worker {task} at {address} was restarted"
        return None
