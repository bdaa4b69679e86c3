"""Workers in networks of their own, joined by links of a limited rate."""

import contextlib
import itertools
import math
import os
import shutil
import subprocess
import sys

from trainers.command import cores, errors
from trainers.workers import private_network

PORT = 2222
_WORKER = (
    "trainers.worker", f"--port={PORT}", "--interface=all", "--end_with_input"
)
# Names of the network interfaces: towards the program, the worker above and the
# worker below.
_CONTROL, _UP, _DOWN = "control", "to_above", "to_below"
_numbers = itertools.count()
# What a limited link may send at once, in bytes and in seconds of its rate; and
# seconds that packets may wait for it.
_BURST, _AT_ONCE, _QUEUE = 2**14, 2e-4, 0.05


def check():
    """Checks that networks can be made, and moves into a private one.

    The command may begin again, so nothing should have been done before.

    Raises:
        UsageError: if the user or the system cannot make them.
    """
    missing = [
        name for name in ("ip", "tc", "nsenter") if shutil.which(name) is None
    ]
    if missing or not hasattr(os, "geteuid") or os.geteuid() != 0:
        raise errors.UsageError(
            "Links can be limited by root on Linux only, with the programs ip "
            "and tc of iproute2 and nsenter of util-linux. Received: "
            + (f"no {missing[0]}" if missing else "another user")
        )
    if not private_network.is_entered():
        raise errors.UsageError(private_network.begin_again())


class LinkedWorkers:
    """Workers in networks of their own, whose neighbours are joined by links.

    What neighbours send each other goes over the link between them; everything
    else, such as what the program sends, goes over a network without limits.
    All ends with the processes.

    Args:
        count: int.
        own_cores: bool, whether each worker has a core of its own.
        program: list of str, the module and arguments that start a worker on
            the port `PORT` of all interfaces.

    Attributes:
        addresses: list of str, host:port of each worker.
    """

    def __init__(self, count, own_cores=False, program=_WORKER):
        self._program = program
        self._processes = []
        try:
            self._start_all(count, own_cores)
        except BaseException:
            self.stop()
            raise
        self.addresses = [f"{_host(i)}:{PORT}" for i in range(count)]

    def _start_all(self, count, own_cores):
        _ip("link", "add", _CONTROL, "type", "bridge")
        _ip("address", "add", "10.0.0.254/24", "dev", _CONTROL)
        _ip("link", "set", _CONTROL, "up")
        for i in range(count):
            self._start(cores.available()[i] if own_cores else None)
            # Those of earlier workers may take a while to disappear.
            name = f"to_{next(_numbers)}"
            self._join(name, i, _CONTROL)
            _ip("link", "set", name, "master", _CONTROL, "up")
            self._inside(
                i, "address", "add", f"{_host(i)}/24", "dev", _CONTROL
            )
            self._inside(i, "link", "set", _CONTROL, "up")
        for i in range(count - 1):
            self._join(_UP, i + 1, _DOWN)
            _ip("link", "set", "dev", _UP, "netns", str(self._processes[i].pid))
            for a, b, name in ((i, i + 1, _UP), (i + 1, i, _DOWN)):
                self._inside(a, "link", "set", name, "up")
                self._inside(
                    a, "route", "add", f"{_host(b)}/32", "dev", name,
                    "src", _host(a),
                )

    def _start(self, core):
        self._processes.append(subprocess.Popen(
            private_network.within([
                sys.executable, "-m", *self._program,
                *([] if core is None else [f"--cores={core}"]),
            ]),
            # The pipe is closed however this process ends.
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            start_new_session=True,
        ))
        if "ready" not in self._processes[-1].stdout.readline():
            raise errors.UsageError("A worker could not be started")

    def _join(self, name, i, name_there):
        """Makes a pair of interfaces, one of them in a worker's network."""
        _ip(
            "link", "add", name, "type", "veth", "peer", "name", name_there,
            "netns", str(self._processes[i].pid),
        )

    def _inside(self, i, *arguments, program="ip"):
        """Runs a program in the network of a worker."""
        _run(
            "nsenter", f"--target={self._processes[i].pid}", "--net", program,
            *arguments,
        )

    def limit(self, bits_per_second):
        """Limits what a link sends, in each direction.

        Args:
            bits_per_second: float, `math.inf` for no limit.
        """
        for i, name in self._ends():
            # (There may be none yet.)
            with contextlib.suppress(errors.UsageError):
                self._inside(
                    i, "qdisc", "delete", "dev", name, "root", program="tc"
                )
            if math.isfinite(bits_per_second):
                burst = _BURST + int(bits_per_second / 8 * _AT_ONCE)
                queue = burst + int(bits_per_second / 8 * _QUEUE)
                self._inside(
                    i, "qdisc", "add", "dev", name, "root", "tbf", "rate",
                    f"{int(bits_per_second)}bit", "burst", str(burst),
                    "limit", str(queue), program="tc",
                )

    def sent(self):
        """The bytes that the kernel has sent over each link so far.

        Returns:
            Dict from pairs of workers' numbers, sender and receiver, to ints.
        """
        return {
            (i, i + 1 if name == _UP else i - 1): self._sent(i, name)
            for i, name in self._ends()
        }

    def _sent(self, i, name):
        with open(f"/proc/{self._processes[i].pid}/net/dev") as file:
            for line in file:
                interface, _, numbers = line.partition(":")
                if interface.strip() == name:
                    return int(numbers.split()[8])
        raise AssertionError(name)

    def _ends(self):
        last = len(self._processes) - 1
        for i in range(last):
            yield i, _UP
            yield i + 1, _DOWN

    def stop(self):
        """Ends the workers, and with them their networks."""
        for process in self._processes:
            process.kill()
            process.wait()
        with contextlib.suppress(errors.UsageError):
            _ip("link", "delete", _CONTROL)


@contextlib.contextmanager
def started(*args, **kwargs):
    """Starts workers, and ends them afterwards.

    Args:
        *args: arguments of `LinkedWorkers`.
        **kwargs: the same.

    Yields:
        `LinkedWorkers`.
    """
    workers = LinkedWorkers(*args, **kwargs)
    try:
        yield workers
    finally:
        workers.stop()


def _host(i):
    return f"10.0.0.{i + 1}"


def _ip(*arguments):
    _run("ip", *arguments)


def _run(*command):
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise errors.UsageError(
            f"{' '.join(command)}: {done.stderr.strip() or done.returncode}"
        )
