"""Queries the status of workers of TensorFlow's runtime."""

import re
import typing

import grpc

# TensorFlow's own request by which the processes of a cluster discover each
# other; it has no arguments.
_METHOD = "/tensorflow.WorkerService/GetStatus"
# Not through a proxy, which does not know the workers.
CHANNEL_OPTIONS = [("grpc.enable_http_proxy", 0)]


class WorkerError(RuntimeError):
    """A worker is absent, lost, or not the expected one."""


class Status(typing.NamedTuple):
    """The answer of a worker.

    Attributes:
        job: str, the name of its job.
        devices: bytes, the full description of its devices, which differs
            after a restart of the process.
    """

    job: str
    devices: bytes


def ask(address, timeout):
    """Asks a worker for its status.

    Args:
        address: str, "host:port".
        timeout: float, seconds.

    Returns:
        `Status`.

    Raises:
        WorkerError: if it does not answer in time, or is not a worker.
    """
    try:
        # gRPC itself gives up after 20 s, or after its reconnect backoff.
        patient = ("grpc.min_reconnect_backoff_ms", int(1000 * timeout) + 5000)
        with grpc.insecure_channel(
            address, [*CHANNEL_OPTIONS, patient]
        ) as channel:
            devices = channel.unary_unary(_METHOD)(b"", timeout=timeout)
    except grpc.RpcError as error:
        if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
            reason = f"no answer for {timeout:g} s"
        elif error.code() is grpc.StatusCode.UNAVAILABLE:
            reason = "no connection"
        else:
            reason = f"not a TensorFlow worker: {error.details()}"
        raise WorkerError(reason) from error
    job = re.search(rb"/job:(\w+)/", devices)
    if job is None:
        raise WorkerError("not a TensorFlow worker")
    return Status(job.group(1).decode(), devices)
