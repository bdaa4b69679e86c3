r"""What can go wrong with a run, and how it ends.

    python -m tests.faults

makes each of these faults happen to a real run of the command line, and writes
the table in docs/reliability.md. `tests/faults_test.py` holds the table to it.
A fault is a function here: its docstring says what goes wrong, and it returns
how the command that met it ended.
"""

import dataclasses
import os
import pathlib
import re
import shutil
import signal
import tempfile

import keras

from tests.command_line import ROOT, finish, start

DOCUMENT = ROOT / "docs" / "reliability.md"
_BEGIN, _END = "<!-- faults -->\n", "<!-- end of faults -->\n"

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
    return dataclasses.replace(base, said=_result(done))


def _result(done):
    """The test accuracy that a run ended with."""
    return re.search(r"Test accuracy [\d.]+% after \d+ epochs|$",
                     done.stdout).group()


def row(base, name, folder):
    """What the table says of a fault, a list of four texts."""
    done = FAULTS[name](base, folder)
    said = done.stderr.strip()
    for path, word in ((folder, "..."), (base.workdir.parent, "...")):
        said = said.replace(str(path), word)
    said = re.sub(r"\w+\.py: ", "", said)
    said = re.sub(r"after iteration \d+", "after iteration N", said)
    # Sizes and checksums, which depend on how long things took.
    said = re.sub(r"\b\d{5,}\b", "N", said)
    if done.returncode:
        ends = "ends"
    elif _result(done) == base.said:
        ends = "ends as if unbroken"
    else:
        ends = "goes on"
    text = " ".join(FAULTS[name].__doc__.split())
    return [text.rstrip("."), ends, str(done.returncode), _cell(said)]


def _cell(said):
    lines = [f"`{line}`" for line in said.splitlines()]
    return "<br>".join(lines).replace("|", "\\|")


def newest(workdir, ending):
    (path,) = (workdir / "checkpoints").glob(f"ckpt-3{ending}*")
    return path


def flip(path):
    """Flips the bits of 16 bytes in the middle of a file."""
    data = bytearray(path.read_bytes())
    for i in range(len(data) // 2, len(data) // 2 + 16):
        data[i] ^= 0xFF
    path.write_bytes(data)


@fault
def truncated(base, folder):
    """The data of the newest checkpoint are cut off."""
    workdir = base.unfinished(folder)
    path = newest(workdir, ".data")
    os.truncate(path, path.stat().st_size // 2)
    return base.command(workdir)


@fault
def flipped_data(base, folder):
    """Bytes are flipped in the data of the newest checkpoint."""
    workdir = base.unfinished(folder)
    flip(newest(workdir, ".data"))
    return base.command(workdir)


@fault
def flipped_index(base, folder):
    """Bytes are flipped in the index of the newest checkpoint."""
    workdir = base.unfinished(folder)
    flip(newest(workdir, ".index"))
    return base.command(workdir)


@fault
def missing_shard(base, folder):
    """The data of the newest checkpoint are missing."""
    workdir = base.unfinished(folder)
    newest(workdir, ".data").unlink()
    return base.command(workdir)


@fault
def missing_list(base, folder):
    """TensorFlow's list of checkpoints is missing."""
    workdir = base.unfinished(folder)
    (workdir / "checkpoints" / "checkpoint").unlink()
    return base.command(workdir)


@fault
def all_damaged(base, folder):
    """All checkpoints are damaged."""
    workdir = base.unfinished(folder)
    for path in (workdir / "checkpoints").rglob("ckpt-*.index"):
        path.write_bytes(b"")
    return base.command(workdir)


@fault
def other_flags(base, folder):
    """The command has another number of modules and no augmentation."""
    workdir = base.unfinished(folder)
    return base.command(workdir, "--num_modules=3", "--crop_padding=0")


@fault
def other_modules(base, folder):
    """The same, but in a new directory with --restore_weights_from."""
    workdir = base.unfinished(folder)
    return base.command(
        folder / "new", "--num_modules=3", "--crop_padding=0",
        f"--restore_weights_from={workdir}",
    )


@fault
def other_format(base, folder):
    """The checkpoints are of a version that writes them in another format."""
    workdir = folder / "run"
    done = base.command(
        workdir, "--epochs=1", module="tests.injected_train",
        first=["other_format"],
    )
    assert done.returncode == 0, done.stderr
    (workdir / "results.json").unlink()
    return base.command(workdir, "--epochs=1")


@fault
def no_space(base, folder):
    """The disk is full during the second epoch."""
    return base.command(
        folder / "run", module="tests.injected_train", first=["no_space"]
    )


@fault
def no_directory(base, folder):
    """The directory of checkpoints cannot be written to in the second epoch."""
    return base.command(
        folder / "run", module="tests.injected_train", first=["no_directory"]
    )


@fault
def nan_in_data(base, folder):
    """A NaN in the third mini-batch of each epoch."""
    return base.command(
        folder / "run", module="tests.injected_train", first=["nan_in_data"]
    )


@fault
def nan_in_gradient(base, folder):
    """A NaN in the gradient of module 2."""
    return base.command(
        folder / "run", module="tests.injected_train", first=["nan_in_gradient"]
    )


@fault
def nan_skipped(base, folder):
    """The same with --on_nan=skip."""
    return base.command(
        folder / "run", "--on_nan=skip", module="tests.injected_train",
        first=["nan_in_gradient"],
    )


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


def _signalled(base, folder, *signals):
    process = base.start(folder / "run", "--epochs=100000")
    while not (folder / "run" / "checkpoints" / "checkpoint").exists():
        assert process.poll() is None, process.stderr.read()
    for signum in signals:
        process.send_signal(signum)
    return finish(process)


@fault
def in_use(base, folder):
    """Another process is at work in the same directory."""
    process = base.start(folder / "run", "--epochs=100000")
    while not (folder / "run" / "flags.cfg").exists():
        assert process.poll() is None, process.stderr.read()
    try:
        return base.command(folder / "run", "--epochs=100000")
    finally:
        process.kill()
        process.communicate()


@fault
def hostile_network(base, folder):
    """The network of a run that is evaluated has a layer made of code."""
    workdir = base.unfinished(folder)
    code = f"lambda x: __import__('os').mkdir('{folder}/harm') or x"
    network = keras.Sequential([
        keras.Input([8, 8, 1]),
        keras.layers.Lambda(eval(code), output_shape=(8, 8, 1)),
    ])
    shutil.rmtree(folder / "harm", ignore_errors=True)
    network.save(workdir / "model.keras")
    done = base.command(workdir, module="trainers.evaluate")
    assert not (folder / "harm").exists()
    return done


def table(base, folder):
    """The table of all faults, a text."""
    lines = [
        "| what goes wrong | the run | status | and says |",
        "|---|---|---|---|",
    ]
    for name in FAULTS:
        (folder / name).mkdir()
        lines.append(f"| {' | '.join(row(base, name, folder / name))} |")
        print(lines[-1], flush=True)
    return "\n".join(lines) + "\n"


def documented():
    """The rows of the table in the document, a list of texts."""
    text = DOCUMENT.read_text()
    inside = text[text.index(_BEGIN) + len(_BEGIN):text.index(_END)]
    return inside.splitlines()[2:]


def main():
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        new = table(make_base(folder), folder)
    text = DOCUMENT.read_text()
    begin, end = text.index(_BEGIN) + len(_BEGIN), text.index(_END)
    DOCUMENT.write_text(text[:begin] + new + text[end:])


if __name__ == "__main__":
    main()
