"""A worker: a process on whose devices others place modules."""

import os

import tensorflow as tf

from fr_keras.cluster import identity, interface
from fr_keras.cluster.status import WorkerError

# Of what starts workers, so that they are found again.
_servers: list = []


def start_worker(
    port: int = 0, network: str = "lo", allow_root: bool = False,
) -> int:
    """Starts a worker in this process, which then runs until it ends.

    TensorFlow's runtime has neither passwords nor encryption: **whoever can
    connect to a worker can have it compute, read and write what its user can.**

    Args:
        port: int, on which it listens, or 0 for any that is free.
        network: str, the network interface by which it takes connections:
            `"lo"` for this machine alone. `None` for all of them, if something
            else keeps strangers away.
        allow_root: bool, whether its user may be root, which lets whoever can
            connect, by loopback every user of this machine, do all that root
            can.

    Returns:
        int, the port.

    Raises:
        WorkerError: if the port is taken, there is no such interface, or the
            user is root.

    Example:

    ```python
    print(fr_keras.cluster.start_worker(port=2222, network="ib0"))
    threading.Event().wait()
    ```
    """
    if not allow_root and _is_root():
        raise WorkerError(
            "A worker does what anybody asks who can connect to it, so its "
            "user must not be root, unless that is allowed by "
            "`allow_root=True` (--allow_root). Received: user root"
        )
    job = identity.job_name()
    # TensorFlow takes a thread for each core, and each of them the newest work
    # first: if all compute, what is to be sent waits until one has nothing
    # else to do, and modules on two machines work one after the other.
    os.environ.setdefault("TF_NUM_INTEROP_THREADS", str(_num_cores() + 1))
    try:
        # Of itself alone: a program that connects names it anew, and tells it
        # of the others. What it is not asked before it listens is answered
        # after `start`.
        server = tf.distribute.Server(
            {job: [f"localhost:{port}"]}, job_name=job, task_index=0,
            start=False,
        )
        port = int(server.target.rpartition(":")[2])
        if network is not None:
            interface.restrict(port, network)
    except (tf.errors.OpError, OSError) as error:
        raise WorkerError(
            f"A worker cannot listen on port {port}"
            + (f" of the interface '{network}'" if network else "")
            + f": {_reason(error)}"
        ) from error
    server.start()
    _servers.append(server)
    return port


def _is_root():
    """Whether this process may do what root may, outside of containers too."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return False
    try:
        with open("/proc/self/uid_map") as file:
            # Of a user namespace: from, which user of this machine, how many.
            return file.read().split()[1] == "0"
    except (OSError, IndexError):
        return True


def _num_cores():
    """The CPU cores that this process may use, int."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _reason(error):
    if isinstance(error, tf.errors.UnknownError):
        return "it is taken, or not for this user"
    return str(error)
