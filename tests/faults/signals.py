"""Signals, terminals, clocks."""

import re
import signal

from tests.command_line import finish
from tests.faults.base import fault


@fault
def terminated(base, folder):
    """SIGTERM in the middle of training."""
    return _signalled(base, folder, signal.SIGTERM)


@fault
def interrupted(base, folder):
    """Ctrl-C in the middle of training."""
    return _signalled(base, folder, signal.SIGINT)


@fault
def interrupted_twice(base, folder):
    """SIGTERM, and Ctrl-C before the running call is over."""
    return _signalled(base, folder, signal.SIGTERM, signal.SIGINT)


@fault
def hung_up(base, folder):
    """The terminal is closed (SIGHUP)."""
    return _signalled(base, folder, signal.SIGHUP)


def _signalled(base, folder, *signals):
    process = _in_training(base, folder, "--epochs=100000")
    for signum in signals:
        process.send_signal(signum)
        # Of several pending signals, the kernel delivers the lowest first.
        while _is_pending(process.pid, signum):
            pass
    return finish(process)


def _is_pending(pid, signum):
    """Whether a signal has not been delivered to a process yet (Linux)."""
    try:
        with open(f"/proc/{pid}/status") as file:
            (pending,) = re.findall(r"ShdPnd:\s*(\w+)", file.read())
    except FileNotFoundError:  # It has ended.
        return False
    return bool(int(pending, 16) >> (signum - 1) & 1)


def _in_training(base, folder, *flags):
    process = base.start(folder / "run", *flags)
    while not (folder / "run" / "checkpoints" / "checkpoint").exists():
        assert process.poll() is None, process.stderr.read()
    return process


@fault
def killed(base, folder):
    """SIGKILL in the middle of training, and the same command again."""
    process = _in_training(base, folder)
    process.kill()
    process.communicate()
    assert not (folder / "run" / "results.json").exists()
    return base.command(folder / "run")


@fault
def nobody_reads(base, folder):
    """Whoever read what it says is gone (tee, ssh)."""
    process = base.start(folder / "run", "--on_nan=skip")
    process.stdout.close()
    process.stderr.close()
    assert process.wait(300) == 0
    # It is over: the same command only tells the result.
    assert (folder / "run" / "results.json").exists()
    return base.command(folder / "run")


@fault
def clock(base, folder):
    """The clock jumps back by a day in the second epoch."""
    return base.injected(folder, "clock")
