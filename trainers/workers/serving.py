"""A worker's life: it starts, says so, and serves until it is stopped."""

import os
import threading

import fr_keras.cluster
from fr_keras.versions import VERSION
from trainers.command import errors
from trainers.workers import root


def serve(port, interface, ends_with_input):
    """Starts a worker in this process, and does not return.

    Args:
        port: int, as for `fr_keras.cluster.start_worker`.
        interface: str, the same, or `"all"`.
        ends_with_input: bool, whether to exit when no process can write to
            standard input any more.

    Raises:
        UsageError: if it cannot be started.
    """
    try:
        port = fr_keras.cluster.start_worker(
            port, None if interface == "all" else interface,
            allow_root=root.is_allowed(),
        )
    except fr_keras.cluster.WorkerError as error:
        raise errors.UsageError(str(error)) from error
    print(
        f"Worker of fr_keras {VERSION}, port {port}, interface {interface}: "
        "ready",
        flush=True,
    )
    if ends_with_input:
        while os.read(0, 1024):
            pass
        os._exit(0)
    threading.Event().wait()
