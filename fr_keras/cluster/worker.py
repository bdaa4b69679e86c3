"""A worker: a process whose devices run modules of other programs."""

import os

import tensorflow as tf

from fr_keras.cluster import identity, interface
from fr_keras.cluster.status import WorkerError

# References to the started servers.
_servers: list = []


def start_worker(
    port: int = 0, network: str = "lo", allow_root: bool = False,
) -> int:
    """Starts a worker in this process, which runs until the process ends.

    TensorFlow's runtime has neither passwords nor encryption: **anyone who can
    connect to a worker can compute, read and write whatever its user can.**

    Args:
        port: int, the port to listen on, or 0 for any free one.
        network: str, the network interface on which to accept connections:
            `"lo"` for this machine alone. `None` for all of them, if something
            else keeps strangers out.
        allow_root: bool, whether its user may be root. Anyone who can connect
            (with loopback, every user of this machine) can then do whatever
            root can.

    Returns:
        int, the port.

    Raises:
        WorkerError: if the port is taken, the interface does not exist, or the
            user is root.

    Example:

    ```python
    print(fr_keras.cluster.start_worker(port=2222, network="ib0"))
    threading.Event().wait()
    ```
    """
    if not allow_root and _is_root():
        raise WorkerError(
            "A worker must not run as root, since anyone who can connect to it "
            "could then do whatever root can. Start it as another user, or "
            "allow root with `allow_root=True` (--allow_root). Received: user "
            "root"
        )
    job = identity.job_name()
    # TensorFlow uses one thread per core, and each takes the newest work
    # first: if all compute, data to be sent waits until one is idle, and
    # modules on two machines work one after the other.
    os.environ.setdefault("TF_NUM_INTEROP_THREADS", str(_num_cores() + 1))
    try:
        # A cluster of itself alone: a program that connects renames it and
        # adds the others. Requests are answered only after `start`.
        server = tf.distribute.Server(
            {job: [f"localhost:{port}"]}, job_name=job, task_index=0,
            start=False,
        )
        port = int(server.target.rpartition(":")[2])
        if network is not None:
            interface.restrict(port, network)
    except (tf.errors.OpError, OSError) as error:
        raise WorkerError(
            f"A worker must be able to listen on port {port}"
            + (f" of the interface '{network}'" if network else "")
            + "; choose another `port` or `network` (--port, --interface). "
            f"Received: {_reason(error)}"
        ) from error
    server.start()
    _servers.append(server)
    return port


def _is_root():
    """Whether this process has root's rights, even outside of containers."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return False
    try:
        with open("/proc/self/uid_map") as file:
            # Of a user namespace: first user, that user on this machine, count.
            return file.read().split()[1] == "0"
    except (OSError, IndexError):
        return True


def _num_cores():
    """Number of CPU cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _reason(error):
    if isinstance(error, tf.errors.UnknownError):
        return "a port that is in use, or that this user may not open"
    return str(error)
