r"""Compares training algorithms: one run for each algorithm, K and seed.

    python -m trainers.compare --flagfile=configs/compare_digits.cfg \
        --workdir=runs/compare_digits

--algorithms, --numbers_of_modules and --seeds select what to compare. The flags
of trainers.train describe the experiment; its --algorithm, --num_modules and
--seed are ignored. Runs are made one after the other; repeat the command to
resume an interrupted comparison. The working directory gets:

    ALGORITHM_kK_seedS/      the working directory of each run
    table.md table.csv       means and standard deviations over seeds
    epochs.png time.png      loss and test error against epochs and seconds
    experiment.cfg           the experiment that all runs share

TensorBoard with this directory as --logdir overlays the runs.
"""

import contextlib
import fcntl
import os
import shutil
import statistics
import subprocess
import sys
import time

from absl import flags

import fr_keras
from trainers.command import errors, sweep, workdir
from trainers.command.validation import are_numbers
from trainers.experiment import experiment_flags, sampling
from trainers.results import comparison, comparison_plots

FLAGS = flags.FLAGS

flags.DEFINE_string(
    "workdir", None,
    "Directory for the results; must be new or that of the same comparison, "
    "which is then resumed. Required.",
    required=True,
)
flags.DEFINE_list("seeds", ["0", "1", "2", "3", "4"], "Seeds.")
flags.adopt_module_key_flags(sweep)
flags.adopt_module_key_flags(sampling)
for name in experiment_flags.EXPERIMENT_FLAGS:
    if name not in ("algorithm", "num_modules", "seed"):
        flags.declare_key_flag(name)

flags.register_validator(
    "seeds",
    lambda values: are_numbers(values, lowest=0),
    "must be distinct integers of at least 0, like 0,1,2",
)


# Epochs between checkpoints of a run; the shortest take less than a second.
_EPOCHS = 10


def main():
    FLAGS.workdir = os.path.expanduser(FLAGS.workdir)
    check_flags_of_algorithms()
    check_balance()
    runs = [
        comparison.Run(FLAGS.workdir, algorithm, num_modules, int(seed))
        # One seed at a time, so that early tables cover all cases.
        for seed in FLAGS.seeds
        for num_modules in sweep.numbers_of_modules()
        for algorithm in FLAGS.algorithms
    ]
    titles = comparison.titles(FLAGS.schedule)
    with whole_workdir() as lock:
        progress = Progress(runs)
        for run in runs:
            if not run.is_finished():
                progress.begin(run)
                make(run, progress, lock)
                progress.end(run)
            comparison.write_tables(FLAGS.workdir, runs, titles)
        comparison_plots.write(FLAGS.workdir, runs, titles)
    with open(os.path.join(FLAGS.workdir, "table.md")) as table:
        print(table.read().strip())
    print(f"Tables, plots and runs are in {FLAGS.workdir}")


def check_flags_of_algorithms():
    """Refuses flags that none of the algorithms reads, and --finish_with."""
    if FLAGS.finish_with:
        raise errors.UsageError(
            "--finish_with cannot be used in a comparison, where each run has "
            f"one algorithm. Received: --finish_with={FLAGS.finish_with}"
        )
    read, readable = (
        set().union(*(experiment_flags.ALGORITHM_FLAGS[name] for name in names))
        for names in (FLAGS.algorithms, experiment_flags.ALGORITHM_FLAGS)
    )
    for name in sorted(readable - read):
        if FLAGS[name].value != FLAGS[name].default:
            raise errors.UsageError(
                f"--{name} does not apply to any of "
                f"--algorithms={','.join(FLAGS.algorithms)}. Received: "
                f"{FLAGS[name].serialize()}"
            )


def check_balance():
    """Refuses --balance=measured, whose times would differ in every run."""
    if FLAGS.balance == "measured":
        raise errors.UsageError(
            "--balance must be estimated, so that all runs have the same "
            "modules. Received: --balance=measured"
        )


def of_algorithm(name):
    """Serialized flags specific to an algorithm."""
    return serialized(experiment_flags.ALGORITHM_FLAGS[name])


def in_common():
    """Serialized flags that all runs share."""
    special = {"algorithm", "num_modules", "seed"}.union(
        *experiment_flags.ALGORITHM_FLAGS.values()
    )
    return serialized(
        name for name in experiment_flags.EXPERIMENT_FLAGS
        if name not in special
    )


def serialized(names):
    return [
        FLAGS[name].serialize()
        for name in names
        if FLAGS[name].value not in (None, [], "")
    ]


@contextlib.contextmanager
def whole_workdir():
    """Locks the working directory for this process and this experiment.

    Yields the locked file.
    """
    path = os.path.join(FLAGS.workdir, "experiment.cfg")
    lines = in_common() + [
        f"# {name}: {flag}"
        for name in sorted(fr_keras.ALGORITHMS) for flag in of_algorithm(name)
    ]
    try:
        os.makedirs(FLAGS.workdir, exist_ok=True)
        if not os.path.exists(path) and os.listdir(FLAGS.workdir):
            raise errors.UsageError(
                "--workdir must be new or that of a comparison. Received: "
                f"{FLAGS.workdir}"
            )
        with open(path, "a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise errors.UsageError(
                    f"--workdir is in use by another process: {FLAGS.workdir}"
                ) from None
            file.seek(0)
            before = file.read().splitlines()
            if not before:
                file.write("\n".join(lines) + "\n")
                file.flush()
            elif before != lines:
                changed = sorted({*before} ^ {*lines})
                raise errors.UsageError(
                    "--workdir contains a comparison with different flags, see "
                    f"{path}. Received: {', '.join(changed)}"
                )
            yield file
    except (OSError, UnicodeDecodeError) as error:
        raise errors.UsageError(
            f"--workdir cannot be used: {error}"
        ) from error


def make(run, progress, lock):
    """Makes one run in its own process.

    A finished run is moved to its final path, without checkpoints. An
    interrupted run resumes from its own checkpoints.

    Args:
        run: `comparison.Run`.
        progress: `Progress`.
        lock: locked file. The process inherits it, so that no second
            comparison can start beside it if this one is killed.
    """
    part = os.path.join(FLAGS.workdir, f"part_of_{run.name}")
    log = os.path.join(FLAGS.workdir, f"{run.name}.log")
    with open(log, "w+") as errors_of_run:
        process = subprocess.Popen(
            [
                sys.executable, "-m", "trainers.train", *in_common(),
                *of_algorithm(run.algorithm), f"--algorithm={run.algorithm}",
                f"--num_modules={run.num_modules}", f"--seed={run.seed}",
                f"--workdir={part}", f"--checkpoint_epochs={_EPOCHS}",
                *serialized(sampling.FLAG_NAMES),
            ],
            stdout=subprocess.PIPE, stderr=errors_of_run, text=True,
            pass_fds=[lock.fileno()],
        )
        try:
            for line in process.stdout:
                progress.show(line)
            status = process.wait()
        finally:
            process.kill()
            process.wait()
        errors_of_run.seek(0)
        said = errors_of_run.read().strip().splitlines()
    finished = os.path.exists(os.path.join(part, "results.json"))
    # A diverged run is a result too.
    if status not in (0, errors.Diverged.status) or not finished:
        raise errors.UsageError(
            f"{run.name}: {said[-1] if said else f'status {status}'} (see "
            f"{log})"
        )
    os.remove(log)
    # Nothing resumes from them, and a comparison has many.
    checkpoints = os.path.join(part, workdir.CHECKPOINTS)
    shutil.rmtree(checkpoints, ignore_errors=True)
    os.rename(part, run.path)


class Progress:
    """Prints the progress, one line per run.

    Args:
        runs: list of `comparison.Run`.
    """

    def __init__(self, runs):
        self._runs = runs
        self._missing = sum(not run.is_finished() for run in runs)
        self._seconds = []
        if self._missing < len(runs):
            print(
                f"{len(runs) - self._missing} of {len(runs)} runs are already "
                "finished",
                flush=True,
            )

    def begin(self, run):
        self._start = time.monotonic()
        number, of = str(self._runs.index(run) + 1), str(len(self._runs))
        self._head = (
            f"[{number:>{len(of)}}/{of}] {run.algorithm}, "
            f"K={run.num_modules}, seed {run.seed}: "
        )
        self._rewrite(self._head + "starts")

    def show(self, line):
        """Shows the progress of a run if its output line contains it."""
        if line.startswith("epoch "):
            self._rewrite(self._head + line.split(",")[0].strip())

    def end(self, run):
        self._seconds.append(time.monotonic() - self._start)
        self._missing -= 1
        left = self._missing * statistics.mean(self._seconds)
        accuracy = run.results["test_accuracy"]
        result = (
            "diverged" if run.has_diverged() else f"error {1 - accuracy:.2%}"
        )
        self._rewrite("")
        print(
            f"{self._head}{result}, {self._seconds[-1]:.0f} s; about "
            f"{left / 60:.0f} min left",
            flush=True,
        )

    def _rewrite(self, text):
        """Overwrites the last line of a terminal."""
        # Elsewhere, lines cannot be overwritten.
        if sys.stdout.isatty():
            width = shutil.get_terminal_size().columns - 1
            print(f"\r{text[:width]:<{width}}\r", end="", flush=True)


if __name__ == "__main__":
    errors.run(main)
