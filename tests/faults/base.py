"""A run to which something happens, and what is told of how it ended."""

import dataclasses
import pathlib
import re
import shutil

from tests.command_line import finish, start

JOB = [
    "--flagfile=configs/digits_fr.cfg", "--epochs=3", "--batch_size=300",
    "--learning_rate=0.01", "--learning_rate_drops=", "--num_modules=2",
    "--steps_per_execution=4", "--deterministic",
]

FAULTS = {}


def fault(function):
    FAULTS[function.__name__] = function
    return function


@dataclasses.dataclass(frozen=True)
class Base:
    """A finished run, to which things happen.

    Attributes:
        workdir: path of its working directory; faults work on copies.
        data_dir: path.
        said: str, how it ended.
    """

    workdir: pathlib.Path
    data_dir: pathlib.Path
    said: str

    def command(self, workdir, *flags, module="trainers.train", first=()):
        """Runs the command line."""
        return finish(self.start(workdir, *flags, module=module, first=first))

    def start(self, workdir, *flags, module="trainers.train", first=()):
        return start(
            module, *first, *JOB, f"--data_dir={self.data_dir}",
            f"--workdir={workdir}", *flags, new_session=True,
        )

    def injected(self, folder, injection, *flags):
        """Runs it with something wrong inside, from tests/injected_train.py."""
        return self.command(
            folder / "run", *flags, module="tests.injected_train",
            first=[injection],
        )

    def unfinished(self, folder):
        """A copy of the run as if it had been killed at the end of training."""
        workdir = folder / "run"
        shutil.copytree(self.workdir, workdir)
        for name in ("results.json", "model.keras"):
            (workdir / name).unlink()
        return workdir


def make_base(folder):
    """Trains the run to which things happen."""
    base = Base(folder / "base", folder / "data", "")
    done = base.command(base.workdir)
    assert done.returncode == 0, done.stderr
    return dataclasses.replace(base, said=result(done))


def result(done):
    """The test accuracy that a run ended with."""
    return re.search(r"Test accuracy [\d.]+% after \d+ epochs|$",
                     done.stdout).group()


def row(base, name, folder):
    """What the table says of a fault, a list of four texts."""
    done = FAULTS[name](base, folder)
    said = "\n".join(
        # Whether it had to wait depends on how long things took.
        line for line in done.stderr.strip().splitlines()
        if "Waiting for worker" not in line
    )
    for path, word in ((folder, "..."), (base.workdir.parent, "...")):
        said = said.replace(str(path), word)
    said = re.sub(r"\w+\.py: ", "", said)
    said = re.sub(r"127\.0\.0\.1:\d+", "HOST:PORT", said)
    said = re.sub(r"after iteration \d+", "after iteration N", said)
    said = re.sub(r"\(\d+ bytes\)", "(N bytes)", said)
    # Sizes and checksums, which depend on how long things took.
    said = re.sub(r"(\b|tempstate)\d{5,}\b", r"\1N", said)
    if done.returncode:
        ends = "ends"
    elif result(done) == base.said:
        ends = "ends as if unbroken"
    else:
        ends = "continues"
    text = " ".join(FAULTS[name].__doc__.split())
    return [text.rstrip("."), ends, str(done.returncode), _cell(said)]


def _cell(said):
    lines = [f"`{line}`" for line in said.splitlines()]
    return "<br>".join(lines).replace("|", "\\|")
