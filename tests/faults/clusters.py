"""Workers that are lost, or are started as root."""

import contextlib
import os

from tests import local_workers
from tests.command_line import command, finish
from tests.disks import Impossible
from tests.faults.base import fault


@fault
def worker_comes_back(base, folder):
    """A worker dies, and is started again."""
    with _trained_on_workers(base, folder) as (run, processes, addresses):
        processes[1].kill()
        line = _lost(run)
        port = addresses[1].rpartition(":")[2]
        with _worker(f"--port={port}"):
            return _told(run, line)


@fault
def worker_is_gone(base, folder):
    """A worker dies, and does not come back."""
    with _trained_on_workers(
        base, folder, "--wait_for_workers=2"
    ) as (run, processes, _):
        processes[1].kill()
        return _told(run)


@fault
def worker_is_left_out(base, folder):
    """The same with --on_lost_worker=shrink."""
    with _trained_on_workers(
        base, folder, "--on_lost_worker=shrink", "--wait_for_workers=2"
    ) as (run, processes, _):
        processes[1].kill()
        return _told(run)


@fault
def program_is_killed(base, folder):
    """The program that drives the workers is killed, and started again."""
    with _trained_on_workers(base, folder) as (run, _, addresses):
        run.kill()
        run.communicate()
        return _told(base.start(
            folder / "run", f"--workers={','.join(addresses)}"
        ))


@fault
def worker_of_root(base, folder):
    """A worker is started as root."""
    del base, folder
    if os.geteuid() != 0:
        raise Impossible("this is not root")
    return command("trainers.worker", "--port=0")


@contextlib.contextmanager
def _trained_on_workers(base, folder, *flags):
    """A run on two workers, in training."""
    with contextlib.ExitStack() as stack:
        processes, addresses = zip(*(
            stack.enter_context(_worker()) for _ in range(2)
        ))
        run = base.start(
            folder / "run", f"--workers={','.join(addresses)}", *flags
        )
        stack.callback(run.kill)
        while not (folder / "run" / "checkpoints" / "checkpoint").exists():
            assert run.poll() is None, run.stderr.read()
        yield run, processes, addresses


def _lost(run):
    """Waits until a run tells of a worker that is lost; returns the line."""
    return next(line for line in run.stderr if "is lost" in line)


def _told(run, before=""):
    """Waits for a run, and leaves out what is of TensorFlow's runtime."""
    done = finish(run)
    lines = (before + done.stderr).splitlines()
    done.stderr = "\n".join(line for line in lines if ".py: " in line)
    return done


@contextlib.contextmanager
def _worker(*flags):
    process, address = local_workers.start_worker(*flags)
    try:
        yield process, address
    finally:
        process.kill()
        process.communicate()
