"""Has workers give back what a program holds on them."""

import contextlib
import struct
from collections.abc import Sequence

import grpc

from fr_keras.cluster.status import CHANNEL_OPTIONS
from fr_keras.engine import private

# TensorFlow's own request at the end of a program.
_METHOD = "/tensorflow.eager.EagerService/CloseContext"
_TIMEOUT = 2.0  # Seconds; one that hangs does not answer.


def release(workers: Sequence[str]) -> None:
    """Frees what this program has on workers, which it cannot use any more.

    A program that ends in its own time does so by itself. For one that is
    about to end in the middle of a call, as after the loss of a worker, the
    others would hold variables and queues for ten minutes more.

    Args:
        workers: list of str, the addresses that `connect` was given; those
            that do not answer are left alone.
    """
    number = private.context_id()
    # A message of two fixed64: the context, and how often it has changed.
    message = struct.pack("<BQBQ", 0x09, number % 2**64, 0x11, 0)
    for address in workers:
        with contextlib.suppress(grpc.RpcError):
            with grpc.insecure_channel(address, CHANNEL_OPTIONS) as channel:
                channel.unary_unary(_METHOD)(message, timeout=_TIMEOUT)
