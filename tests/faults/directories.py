"""Working directories of others, and files from elsewhere."""

import shutil
import time

import keras

from tests.command_line import finish
from tests.faults.base import fault


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
def ten_at_once(base, folder):
    """Ten starts at once in one directory: one trains, nine end like this."""
    running = [base.start(folder / "run", "--epochs=100000") for _ in range(10)]
    ended = []
    while len(ended) < 9:
        ended += [process for process in running if process.poll() is not None]
        running = [process for process in running if process.poll() is None]
        time.sleep(0.1)
    (trains,) = running
    while not (folder / "run" / "checkpoints" / "checkpoint").exists():
        assert trains.poll() is None, trains.stderr.read()
    trains.kill()
    trains.communicate()
    (done, *others) = map(finish, ended)
    assert {other.stderr for other in others} == {done.stderr}
    return done


@fault
def no_locks(base, folder):
    """The file system has no locks."""
    return base.injected(folder, "no_locks")


@fault
def link(base, folder):
    """The directory came with a symbolic link in the place of a log."""
    workdir = base.unfinished(folder)
    (folder / "thesis.tex").write_text("the only copy")
    (workdir / "history.csv").unlink()
    (workdir / "history.csv").symlink_to(folder / "thesis.tex")
    done = base.command(workdir)
    assert (folder / "thesis.tex").read_text() == "the only copy"
    return done


@fault
def other_file(base, folder):
    """The directory holds something else."""
    (folder / "run").mkdir()
    (folder / "run" / "thesis.tex").write_text("the only copy")
    return base.command(folder / "run")


@fault
def garbled_flags(base, folder):
    """The flag file in the directory is no text."""
    workdir = base.unfinished(folder)
    (workdir / "flags.cfg").write_bytes(b"--seed=\xff\xfe\x00")
    return base.command(workdir)


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
