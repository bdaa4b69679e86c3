"""Bytes between processes, against what a process says it has sent."""

import os
import shutil
import socket
import subprocess
import sys

import pytest

from trainers.benchmarks import traffic

SENDER = """
import socket
import sys

with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as s:
    s.sendall(bytes(123_456))
    sys.stdin.read()
"""


@pytest.mark.skipif(not shutil.which("ss"), reason="needs iproute2")
@pytest.mark.parametrize("interface", [b"", b"lo"])
def test_counts_what_is_sent(interface):
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        if interface:
            listening.setsockopt(
                socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface
            )
        port = listening.getsockname()[1]
        with subprocess.Popen(
            [sys.executable, "-c", SENDER, str(port)], stdin=subprocess.PIPE
        ) as sender:
            receiving, _ = listening.accept()
            with receiving:
                left = 123_456
                while left:
                    left -= len(receiving.recv(left))
                receiving.sendall(bytes(78))
                assert traffic.between(
                    {"me": os.getpid(), "it": sender.pid}
                ) == {("it", "me"): 123_456, ("me", "it"): 78}
                sender.stdin.close()
