"""Contestants, each in its own process on its own cores."""

import concurrent.futures
import multiprocessing
import os
import signal
import time

# Where modules are compared.
HERE, THERE = "one process", "workers"


class Failed(Exception):
    """An error in a process, in one line."""


class Process:
    """A process that prepares a callable once, and calls it on demand.

    Only one process runs at a time; the others wait for their turn.

    Args:
        cores: set of ints, the cores that the process may use, or `None` for
            all (Linux).
        make: module-level callable that prepares and returns a callable.
        *args: arguments for `make`.
        until: float, when its answers must be there, as `time.monotonic()`
            counts; `None` for no limit.

    Raises:
        Failed: if `make`, or the callable it returned, fails in the process,
            or has not answered in time.
    """

    def __init__(self, cores, make, *args, until=None):
        self._until = until
        # Not fork, which TensorFlow does not survive.
        context = multiprocessing.get_context("spawn")
        self._pipe, other_end = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(other_end, cores, make, args), daemon=True
        )
        self._process.start()
        other_end.close()
        self._answer()

    def __call__(self, *args):
        """Calls the prepared callable and returns its result."""
        self._pipe.send(args)
        return self._answer()

    @property
    def pid(self):
        """int, the ID of the process."""
        return self._process.pid

    def close(self):
        """Ends the process, whatever it is doing."""
        self._process.terminate()
        self._process.join()
        self._pipe.close()

    def _answer(self):
        if self._until is not None and not self._pipe.poll(
            max(0.0, self._until - time.monotonic())
        ):
            self.close()
            raise Failed("Its time is up")
        try:
            done, answer = self._pipe.recv()
        except EOFError:
            self._process.join()
            raise Failed(
                "A process of the benchmark ended unexpectedly. Received: exit "
                f"status {self._process.exitcode}"
            ) from None
        if not done:
            raise Failed(answer)
        return answer


def once(*of_process, until=None):
    """Starts a process, calls it once and returns its answer.

    Args:
        *of_process: arguments of `Process`.
        until: as of `Process`.
    """
    process = Process(*of_process, until=until)
    try:
        return process()
    finally:
        process.close()


class OnCores:
    """The same process on several cores at a time; the slowest counts.

    Args:
        numbers: list of ints, the numbers of the cores.
        *of_process: arguments of `Process` but for the first; its callable
            returns a dict of numbers.
    """

    def __init__(self, numbers, *of_process):
        self._processes = []
        try:
            for number in numbers:
                self._processes.append(Process({number}, *of_process))
        except BaseException:
            self.close()
            raise

    def __call__(self):
        """Calls all at the same time.

        Returns:
            Dict with the largest value that any process found for a key.
        """
        with concurrent.futures.ThreadPoolExecutor(len(self._processes)) as all:
            answers = list(all.map(lambda process: process(), self._processes))
        return {key: max(of[key] for of in answers) for key in answers[0]}

    def close(self):
        for process in self._processes:
            process.close()


def _serve(pipe, cores, make, args):
    # Ctrl-C reaches all processes; the parent ends this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if cores is not None and hasattr(os, "sched_setaffinity"):
        # Before TensorFlow starts, so that its threads inherit it.
        os.sched_setaffinity(0, cores)
    try:
        run = make(*args)
        pipe.send((True, None))
        while True:
            pipe.send((True, run(*pipe.recv())))
    except EOFError:
        pass
    except Exception as error:
        pipe.send((False, f"{type(error).__name__}: {error}"))
