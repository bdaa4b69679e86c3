"""Connects a program to its workers."""

import concurrent.futures
import ipaddress
import itertools
import logging
import os
import re
import socket
import time
from collections.abc import Sequence

import psutil
import tensorflow as tf

from fr_keras.cluster import identity, interface
from fr_keras.cluster.status import WorkerError, ask

_logger = logging.getLogger("fr_keras")

# Seconds that a running worker may take to answer.
_TIMEOUT = 5.0


def connect(
    workers: Sequence[str], coordinator: str | None = None, wait: float = 60.0,
    network: str = "auto",
):
    """Makes the devices of workers available to this program.

    Call it before TensorFlow does anything else. It waits for all workers to
    answer, and checks that they run the same versions. From then on
    `devices=None` means those of the workers, and their names are
    `"/job:worker/replica:0/task:0/device:GPU:0"` and so on. Inputs are sent
    where they are needed: a `tf.data.Dataset` created in the scope of
    `tf.device(fr_keras.engine.placement.host(model.devices[0]))` is read on the
    machine of the first module; arrays come from this one.

    Args:
        workers: list of str, "host:port" of each worker, task by task.
        coordinator: str, "host:port" at which workers reach this program; by
            default a free port of the address from which it reaches the first.
        wait: float, seconds to wait for workers that do not answer yet.
        network: str, the network interface on which this program accepts
            connections, which TensorFlow's runtime opens to everyone: `"auto"`
            for that of `coordinator`'s address (for all, with a warning, if
            some workers are on this machine and others are not), or `None`
            for all.

    Raises:
        ValueError: if an address is invalid, or is given twice.
        WorkerError: if a worker does not answer in time or has other versions,
            or this program cannot listen on `coordinator`.

    Example:

    ```python
    fr_keras.cluster.connect(["10.0.0.1:2222", "10.0.0.2:2222"])
    model = fr_keras.FeaturesReplay(network)
    ```
    """
    workers = list(workers)
    _check_addresses(workers, coordinator)
    _wait_for(workers, wait)
    coordinator = coordinator or _address_towards(workers[0])
    # An assignment to a worker's variable outside of functions takes a while
    # to arrive, and a function called next may overtake it, unless each such
    # operation is waited for.
    os.environ["TF_ENABLE_EAGER_CLIENT_STREAMING_ENQUEUE"] = "false"
    try:
        tf.config.experimental_connect_to_cluster(
            tf.train.ClusterSpec({
                "coordinator": [coordinator], "worker": workers,
            }),
            job_name="coordinator",
        )
        # Now, and not with the first operation, to listen on the port.
        tf.config.list_logical_devices()
        host, port = _host_and_port(coordinator)
        if network == "auto":
            network = _network_of(host, workers)
        if network is not None and hasattr(socket, "SO_BINDTODEVICE"):
            interface.restrict(port, network)
    except (tf.errors.OpError, OSError) as error:
        raise WorkerError(
            f"This program must be able to listen on {coordinator}, where the "
            f"{len(workers)} workers connect to it; choose another address "
            "with `coordinator` (--coordinator) if it is taken. Received: "
            f"{getattr(error, 'message', error)}"
        ) from error


def present(workers: Sequence[str], wait: float = 60.0) -> list[str]:
    """Returns the workers that answer, to continue without lost ones.

    Args:
        workers: list of str, "host:port" of each.
        wait: float, seconds to wait for those that do not answer.

    Returns:
        List of str, the addresses of those that answer, in the same order.

    Example:

    ```python
    workers = fr_keras.cluster.present(workers)
    fr_keras.cluster.connect(workers)
    model = fr_keras.FeaturesReplay(network, num_modules=8)  # Shared by them.
    ```
    """
    end = time.monotonic() + wait
    with concurrent.futures.ThreadPoolExecutor(min(len(workers), 100)) as pool:
        while True:
            answer = list(pool.map(_answers, workers))
            if all(answer) or time.monotonic() > end:
                return list(itertools.compress(workers, answer))
            time.sleep(0.2)


def _answers(address):
    try:
        ask(address, _TIMEOUT)
    except WorkerError:
        return False
    return True


def _check_addresses(workers, coordinator):
    if not workers or len({*workers}) != len(workers):
        raise ValueError(
            "`workers` must contain at least one address, and none twice. "
            f"Received: workers={workers!r}"
        )
    for address in [*workers, coordinator or workers[0]]:
        _host_and_port(address)


def _host_and_port(address):
    match = re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[\w.-]+):(\d{1,5})", address)
    if match is None or not 0 < int(match.group(2)) < 2**16:
        raise ValueError(
            "An address must consist of a host and a port, like "
            f"10.0.0.1:2222. Received: {address!r}"
        )
    return match.group(1).strip("[]"), int(match.group(2))


def _wait_for(workers, seconds):
    """Waits for workers, and checks that they match this process."""
    end = time.monotonic() + seconds
    for task, address in enumerate(workers):
        has_warned = False
        while True:
            try:
                status = ask(address, _TIMEOUT)
                break
            except WorkerError as error:
                if time.monotonic() > end:
                    raise WorkerError(
                        f"Worker {task} at {address} must answer within "
                        f"{seconds:g} s: start it, or allow more time with "
                        "`wait` (--wait_for_workers). Received: "
                        f"{error}"
                    ) from error
                if not has_warned:
                    _logger.warning(
                        "Waiting for worker %d at %s: %s", task, address, error
                    )
                has_warned = True
                time.sleep(0.2)
        difference = identity.difference(status.job)
        if difference:
            raise WorkerError(f"Worker {task} at {address} {difference}")


def _address_towards(worker):
    """A free port of the address from which this machine reaches another."""
    host, port = _host_and_port(worker)
    try:
        family, *_, target = socket.getaddrinfo(
            host, port, type=socket.SOCK_DGRAM
        )[0]
        # Nothing is sent: this only looks up the route.
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect(target)
            mine = probe.getsockname()[0]
        with socket.socket(family) as free:
            free.bind((mine, 0))
            port = free.getsockname()[1]
    except OSError as error:
        raise WorkerError(
            "This machine must have a route to every worker; check the "
            f"address and the network. Received: {worker} ({error})"
        ) from error
    return f"[{mine}]:{port}" if ":" in mine else f"{mine}:{port}"


def _network_of(host, workers):
    """The interface by which all workers reach an address of this machine.

    Args:
        host: str, the address.
        workers: list of str, "host:port".

    Returns:
        str, or `None` if there is no such interface.
    """
    if all(map(_is_loopback, workers)):
        return "lo"
    interfaces = {
        address.address.partition("%")[0]: name
        for name, addresses in psutil.net_if_addrs().items()
        for address in addresses
    }
    own = {_resolved(_host_and_port(worker)[0]) for worker in workers}
    network = interfaces.get(_resolved(host))
    # (Local connections use loopback, whatever the address.)
    if network is None or own & {*interfaces, None}:
        _logger.warning(
            "This program accepts connections on all network interfaces of "
            "this machine, and anyone who can connect can make it compute "
            "anything. Restrict it to one interface with `network` "
            "(--coordinator_interface; see docs/scaling.md)."
        )
        return None
    return network


def _resolved(host):
    """The IP address of a host, or `None`."""
    try:
        return socket.getaddrinfo(host, None)[0][4][0].partition("%")[0]
    except OSError:
        return None


def _is_loopback(address):
    host, _ = _host_and_port(address)
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
