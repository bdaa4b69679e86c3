"""Checkpoints that are damaged, or of another run."""

import os

from tests.faults.base import fault


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
