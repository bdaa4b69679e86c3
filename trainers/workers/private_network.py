"""A private network for a process, which nobody else can reach."""

import ctypes
import fcntl
import os
import socket
import struct
import subprocess
import sys

# From Linux' headers sched.h, if.h and sockios.h.
_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 0x1
_NETWORK = "/proc/self/ns/net"
# Variable that names the entered network, for `is_entered`.
_ENTERED = "FR_KERAS_PRIVATE_NETWORK"
# Run as a file, not as a module, because its package imports TensorFlow, and a
# process with several threads may not move.
_ALONE = [sys.executable, "-I", __file__]


def enter():
    """Moves this single-threaded process into a private network.

    Raises:
        OSError: if the system does not allow it.
    """
    user, group = os.geteuid(), os.getegid()
    try:
        _unshare(_CLONE_NEWNET)
    except OSError:
        # Users without this right may have it in a namespace of their own.
        _unshare(_CLONE_NEWUSER | _CLONE_NEWNET)
        for name, text in (
            ("setgroups", "deny"), ("uid_map", f"{user} {user} 1"),
            ("gid_map", f"{group} {group} 1"),
        ):
            with open(f"/proc/self/{name}", "w") as file:
                file.write(text)
    with socket.socket() as any_socket:
        request = struct.pack("16sH22x", b"lo", 0)
        flags = fcntl.ioctl(any_socket, _SIOCGIFFLAGS, request)[16:18]
        up = struct.unpack("H", flags)[0] | _IFF_UP
        fcntl.ioctl(
            any_socket, _SIOCSIFFLAGS, struct.pack("16sH22x", b"lo", up)
        )
    os.environ[_ENTERED] = os.readlink(_NETWORK)


def _unshare(what):
    # `os.unshare` is new in Python 3.12.
    library = ctypes.CDLL(None, use_errno=True)
    if not hasattr(library, "unshare"):
        raise OSError("only Linux supports private networks")
    if library.unshare(what):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def is_entered():
    """Whether this process is in a network entered by `enter`."""
    try:
        return os.environ.get(_ENTERED) == os.readlink(_NETWORK)
    except OSError:
        return False


def within(command):
    """Returns a command that runs another one in a private network.

    Args:
        command: list of str.

    Returns:
        List of str.
    """
    return [*_ALONE, *command]


def begin_again():
    """Replaces this process by the same command in a private network.

    Returns:
        str, why that failed; it does not return otherwise.
    """
    tried = subprocess.run(
        within([sys.executable, "-c", ""]), stderr=subprocess.PIPE, text=True,
        check=False,
    )
    if tried.returncode:
        return tried.stderr.strip().rpartition("\n")[2]
    sys.stdout.flush()
    os.execv(sys.executable, within([sys.executable, *sys.orig_argv[1:]]))


def main():
    name = "private_network.py"
    if not sys.argv[1:]:
        sys.exit(f"{name}: expected a command. Received: nothing")
    if __spec__ is not None:
        os.execv(sys.executable, within(sys.argv[1:]))
    try:
        enter()
    except OSError as error:
        sys.exit(
            f"{name}: the system does not allow this user to have a private "
            f"network: {error}"
        )
    try:
        os.execvp(sys.argv[1], sys.argv[1:])
    except OSError as error:
        sys.exit(f"{name}: {sys.argv[1]}: {error.strerror}")


if __name__ == "__main__":
    main()
