"""Keeps a listening port to one network interface.

TensorFlow's servers listen on all interfaces of a machine, whatever address
they are given, and whoever can connect can have them compute anything.
"""

import contextlib
import ipaddress
import os
import socket
import time


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
    with contextlib.ExitStack() as stack:
        found = [stack.enter_context(s) for s in _with_port(port)]
        listening = [s for s in found if _listens(s)]
        if not listening:
            raise OSError(f"nobody listens on port {port}")
        for each in listening:
            each.setsockopt(
                socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode()
            )
    # Who was quick enough to connect before, and what was still in the queue.
    for _ in range(2):
        for connected in _with_port(port):
            with connected, contextlib.suppress(OSError):
                if not _listens(connected) and not _may_stay(
                    connected, interface
                ):
                    connected.shutdown(socket.SHUT_RDWR)
        time.sleep(0.05)


def _with_port(port):
    """Copies of the sockets of this process with a port of their own."""
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # What is no socket, or closed.
            copy = os.dup(int(name))
            try:
                candidate = socket.socket(fileno=copy)
            except OSError:
                os.close(copy)
                raise
            with contextlib.suppress(OSError, IndexError, TypeError):
                if candidate.getsockname()[1] == port:
                    yield candidate
                    continue
            candidate.close()


def _listens(candidate):
    return bool(
        candidate.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    )


def _may_stay(connected, interface):
    """Whether a connection came by loopback, and may."""
    host = connected.getpeername()[0].removeprefix("::ffff:")
    return interface == "lo" and ipaddress.ip_address(host).is_loopback
