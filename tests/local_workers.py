"""Workers on loopback, for tests."""

import contextlib
import signal

from tests.command_line import start


def start_worker(*flags):
    """Starts `python -m trainers.worker`; returns it and its address."""
    process = start(
        "trainers.worker", "--port=0", "--cores=0", "--deterministic",
        "--allow_root", *flags,
    )
    line = process.stdout.readline()
    assert line.endswith(": ready\n"), line
    port = line.partition("port ")[2].partition(",")[0]
    return process, f"127.0.0.1:{port}"


@contextlib.contextmanager
def workers(count):
    """Yields the addresses of workers, each a process of its own."""
    with contextlib.ExitStack() as stack:
        addresses = []
        for _ in range(count):
            process, address = start_worker()
            stack.callback(process.communicate)
            stack.callback(process.send_signal, signal.SIGKILL)
            addresses.append(address)
        yield addresses
