"""Disks that are full, that fail, or that lose power."""

import shutil

from tests import disks
from tests.faults.base import fault


@fault
def no_space(base, folder):
    """The disk is full during the second epoch."""
    return base.injected(folder, "no_space")


@fault
def no_directory(base, folder):
    """The directory of checkpoints cannot be written to in the second epoch."""
    return base.injected(folder, "no_directory")


@fault
def io_error(base, folder):
    """The disk fails to keep what was written (EIO) in the second epoch."""
    return base.injected(folder, "io_error")


@fault
def small_disk(base, folder):
    """The disk is full to the end, logs and results included."""
    with disks.mounted(
        "none", folder / "small", "-t", "tmpfs", "-o", "size=600k"
    ) as small:
        return base.command(small / "run")


@fault
def space_again(base, folder):
    """The same, and the same command when there is space again."""
    with disks.mounted(
        "none", folder / "small", "-t", "tmpfs", "-o", "size=600k"
    ) as small:
        base.command(small / "run")
        shutil.copytree(small / "run", folder / "run")
    return base.command(folder / "run")


@fault
def read_only(base, folder):
    """The disk cannot be written to."""
    with disks.mounted(
        "none", folder / "disk", "-t", "tmpfs", "-o", "ro"
    ) as at:
        return base.command(at / "run")


@fault
def power_cut(base, folder):
    """The power fails in mid-run, and the disk has what was written to it."""
    disks.image(folder / "image")
    at = folder / "disk"
    with disks.mounted(folder / "image", at, "-o", "loop"):
        process = base.start(at / "run")
        while not (at / "run" / "checkpoints" / "ckpt-2.index").exists():
            assert process.poll() is None, process.stderr.read()
        shutil.copyfile(folder / "image", folder / "copy")
        process.kill()
        process.communicate()
    with disks.mounted(folder / "copy", at, "-o", "loop"):
        done = base.command(at / "run")
    # The newest may have been half written then, and the one before is used.
    done.stderr = "".join(
        line for line in done.stderr.splitlines(keepends=True)
        if not line.endswith("trying the one before it\n")
    )
    return done
