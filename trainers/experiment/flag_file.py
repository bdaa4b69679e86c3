"""The flags of a run in its working directory, by which it is told apart."""

import os

import numpy as np
from absl import flags

from trainers.command import errors, workdir
from trainers.experiment import experiment_flags

FLAGS = flags.FLAGS


def settle(data):
    """Makes the flags say what is done, wherever the run is repeated.

    Args:
        data: `input_pipeline.ImageData`, by whose mean and standard deviation
            images are normalized.
    """
    FLAGS.mean = [repr(float(value)) for value in np.float32(data.mean)]
    FLAGS.std = [repr(float(value)) for value in np.float32(data.std)]
    for name in ("data_dir", "restore_weights_from"):
        if FLAGS[name].value:
            FLAGS[name].value = os.path.abspath(
                os.path.expanduser(FLAGS[name].value)
            )


def write(path):
    """Writes the experiment as a flag file.

    Args:
        path: str.

    Raises:
        UsageError: if it cannot be written.
    """
    with workdir.whole_file(path) as part, open(part, "w") as file:
        file.write("\n".join(_lines().values()) + "\n")


def _lines():
    """From the names of flags to the flags as they are given."""
    return {
        name: FLAGS[name].serialize()
        for name in experiment_flags.EXPERIMENT_FLAGS
        if FLAGS[name].value not in (None, [], "")
    }


def check(path, unknown=()):
    """Refuses a run with other flags than that which a file is of.

    Args:
        path: str, a file that `write` wrote.
        unknown: names of flags that are not known yet, which pass if they are
            not given.

    Raises:
        UsageError: if flags differ; it says which.
    """
    try:
        with open(path, encoding="utf-8") as file:
            theirs = _by_name(file.read().split("\n"))
    except (OSError, UnicodeDecodeError) as error:
        raise errors.UsageError(f"{path} cannot be read: {error}") from error
    mine = _lines()
    differences = []
    for name in {**mine, **theirs}:
        if name in unknown and name not in mine:
            continue
        if mine.get(name) != theirs.get(name):
            was = theirs.get(name) or f"without --{name}"
            now = mine.get(name) or f"without --{name}"
            differences.append(f"{now} (it was: {was})")
    if differences:
        raise errors.UsageError(
            f"--workdir holds a run with other flags; --flagfile={path} goes "
            f"on with it. Received: {', '.join(differences)}"
        )


def _by_name(lines):
    """From the names of flags to lines of a flag file."""
    found = {}
    for line in filter(None, lines):
        name = line.lstrip("-").partition("=")[0]
        if name not in FLAGS and name.startswith("no"):
            name = name[2:]
        found[name] = line
    return found
