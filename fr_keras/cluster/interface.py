"""Restricts a listening port to one network interface.

TensorFlow's servers listen on all interfaces of a machine, whatever address
they are given, and anyone who can connect can make them compute anything.
"""

import contextlib
import ipaddress
import os
import socket
import time

import psutil


def restrict(port, interface):
    """Restricts a port of this process to connections on one interface.

    Linux lets every user bind a socket that is not bound to an interface yet.

    Args:
        port: int, on which this process listens.
        interface: str, name of the network interface, such as `"lo"`.

    Raises:
        OSError: if the interface does not exist, or the system does not
            support this.
    """
    if not hasattr(socket, "SO_BINDTODEVICE"):
        raise OSError("only Linux can restrict a port to one interface")
    found = 0
    for listening in _sockets(port, psutil.CONN_LISTEN):
        with listening:
            _bind(listening, interface)
            found += 1
    if not found:
        raise OSError(f"this process does not listen on port {port}")
    # Connections made before that, and those still in the queue.
    for _ in range(2):
        for connected in _sockets(port, psutil.CONN_ESTABLISHED):
            with connected, contextlib.suppress(OSError):
                if not _may_stay(connected, interface):
                    connected.shutdown(socket.SHUT_RDWR)
        time.sleep(0.05)


def _bind(listening, interface):
    name = interface.encode()
    bound = listening.getsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, 16)
    if bound.rstrip(b"\0") == name:
        return
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, name)
    except PermissionError as error:
        raise OSError(
            "this user may not restrict a port to the interface "
            f"'{interface}', which requires Linux 5.7 or newer"
        ) from error


def _sockets(port, status):
    """Yields copies of this process' sockets on a port, with a status."""
    for connection in psutil.Process().net_connections("tcp"):
        if connection.status == status and connection.laddr.port == port:
            # (It may have been closed meanwhile.)
            with contextlib.suppress(OSError):
                copy = socket.socket(fileno=os.dup(connection.fd))
                yield copy


def _may_stay(connected, interface):
    """Whether a connection came through loopback, if that is allowed."""
    host = connected.getpeername()[0].removeprefix("::ffff:")
    return interface == "lo" and ipaddress.ip_address(host).is_loopback
