"""The downtime of a run when one of its workers is killed."""

import os
import re
import subprocess
import sys
import tempfile
import threading
import time

from trainers.benchmarks import processes, turns
from trainers.command import workdir
from trainers.workers import local_workers

# Events timed from the kill: a line of output, or a new checkpoint.
REPORTED = "the run reports which worker is lost"
RESUMED = "it resumes from its newest checkpoint"
TRAINED = "it has written another checkpoint"

_TIMEOUT = 300.0  # Seconds.


def measure(num_modules, rounds, show):
    """Kills a worker during training, and times the recovery of the run.

    Args:
        num_modules: int, K, each on its own worker on loopback; the killed
            worker is restarted at once.
        rounds: int.
        show: as for `turns.take`.

    Returns:
        Dict from events to `Samples`, seconds since the kill.
    """
    seconds = {REPORTED: [], RESUMED: [], TRAINED: []}
    for i in range(rounds):
        show(f"round {i + 1} of {rounds}")
        with tempfile.TemporaryDirectory() as folder:
            for what, after in _kill(num_modules, folder).items():
                seconds[what].append(after)
    return {what: turns.Samples(values) for what, values in seconds.items()}


def _kill(num_modules, folder):
    """Dict from events to seconds since the kill."""
    with local_workers.started(num_modules) as workers:
        run = subprocess.Popen(
            [
                sys.executable, "-m", "trainers.train",
                "--flagfile=configs/digits_fr.cfg", "--epochs=100000",
                f"--num_modules={num_modules}", "--checkpoint_steps=8",
                f"--workers={','.join(worker.address for worker in workers)}",
                f"--workdir={folder}/run", f"--data_dir={folder}/data",
            ],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        try:
            said = _Lines(run.stdout)
            checkpoints = os.path.join(folder, "run", workdir.CHECKPOINTS)
            _wait(lambda: _newest(checkpoints) >= 3, run, said)
            workers[-1].process.kill()
            killed, before = time.monotonic(), _newest(checkpoints)
            found = {}
            for what, is_there in (
                (REPORTED, lambda: said.at(r"resuming from the newest")),
                (RESUMED, lambda: said.at(r"^Resuming from")),
                (TRAINED, lambda: _newest(checkpoints) > before),
            ):
                _wait(is_there, run, said)
                found[what] = time.monotonic() - killed
            return found
        finally:
            run.kill()
            run.wait()


class _Lines:
    """The output lines of a process, read by a separate thread."""

    def __init__(self, stream):
        self.lines = []
        threading.Thread(target=self._read, args=[stream], daemon=True).start()

    def _read(self, stream):
        for line in stream:
            self.lines.append(line.rstrip())

    def at(self, pattern):
        """Whether a line matches."""
        return any(re.search(pattern, line) for line in list(self.lines))


def _wait(is_there, run, said):
    end = time.monotonic() + _TIMEOUT
    while not is_there():
        if run.poll() is not None or time.monotonic() > end:
            raise processes.Failed(
                "A run on workers must resume after one was killed. Received: "
                f"{' / '.join(said.lines[-3:])}"
            )
        time.sleep(0.02)


def _newest(folder):
    """The number of the newest checkpoint, or 0."""
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return 0
    found = (re.fullmatch(r"ckpt-(\d+)\.index", name) for name in names)
    return max((int(match[1]) for match in found if match), default=0)
