"""Keeps a listening port to one network interface.

TensorFlow's servers listen on all interfaces of a machine, whatever address
they are given, and whoever can connect can have them compute anything.
"""

import contextlib
import os
import socket


def restrict(port, interface):
    """Has a port of this process take connections by one interface only.

    Args:
        port: int, on which this process listens.
        interface: str, name of the network interface, like `"lo"`.

    Raises:
        OSError: if there is no such interface, or the system cannot do it.
    """
    if not hasattr(socket, "SO_BINDTODEVICE"):
        raise OSError("only Linux can keep a port to one interface")
    found = _listening_on(port)
    if not found:
        raise OSError(f"nobody listens on port {port}")
    for listening in found:
        with listening:
            listening.setsockopt(
                socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode()
            )


def _listening_on(port):
    """Copies of the sockets of this process that listen on a port."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # What is no socket, or closed.
            candidate = socket.socket(fileno=os.dup(int(name)))
            if (
                candidate.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
                and candidate.getsockname()[1] == port
            ):
                found.append(candidate)
            else:
                candidate.close()
    return found
