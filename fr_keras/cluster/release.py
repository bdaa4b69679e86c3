"""Frees the resources that a program holds on workers."""

import contextlib
import struct
from collections.abc import Sequence

import grpc

from fr_keras.cluster.status import CHANNEL_OPTIONS
from fr_keras.engine import private

# TensorFlow's own request at the end of a program.
_METHOD = "/tensorflow.eager.EagerService/CloseContext"
_TIMEOUT = 2.0  # Seconds; a worker that hangs does not answer.


def release(workers: Sequence[str]) -> None:
    """Frees this program's resources on workers, unusable from then on.

    A program that exits normally does this automatically. If it exits in the
    middle of a call, for instance after the loss of a worker, the others would
    otherwise hold variables and queues for ten more minutes.

    Args:
        workers: list of str, the addresses passed to `connect`; those that do
            not answer are skipped.
    """
    number = private.context_id()
    # A message of two fixed64: the context, and how often it has changed.
    message = struct.pack("<BQBQ", 0x09, number % 2**64, 0x11, 0)
    for address in workers:
        with contextlib.suppress(grpc.RpcError):
            with grpc.insecure_channel(address, CHANNEL_OPTIONS) as channel:
                channel.unary_unary(_METHOD)(message, timeout=_TIMEOUT)
