"""The flag file in a working directory, which identifies its run."""

import os

import numpy as np
from absl import flags

from trainers.command import errors, workdir
from trainers.data import own_data
from trainers.data.input_pipeline import ImageData
from trainers.experiment import experiment_flags

FLAGS = flags.FLAGS


def settle(data):
    """Makes the flags explicit, so that the run can be repeated anywhere.

    Args:
        data: `trainers.data.data.Data`; the mean and standard deviation of
            images normalize them.
    """
    if isinstance(data, ImageData):
        FLAGS.mean = [repr(float(value)) for value in np.float32(data.mean)]
        FLAGS.std = [repr(float(value)) for value in np.float32(data.std)]
    settle_paths()


def settle_paths():
    """Makes the paths in flags absolute, as they are in flag files."""
    paths = ["data_dir", "restore_weights_from"]
    if FLAGS.model.endswith(".keras"):
        paths.append("model")
    if own_data.is_saved(FLAGS.dataset):
        paths.append("dataset")
    for name in paths:
        if FLAGS[name].value:
            FLAGS[name].value = os.path.abspath(
                os.path.expanduser(FLAGS[name].value)
            )
    kind, _, preset = FLAGS.tokenizer.partition(":")
    preset = os.path.expanduser(preset)
    if os.path.isdir(preset):  # Others are names.
        FLAGS.tokenizer = f"{kind}:{os.path.abspath(preset)}"


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
    """Dict from names of flags to serialized flags."""
    return {
        name: FLAGS[name].serialize()
        for name in experiment_flags.EXPERIMENT_FLAGS
        if FLAGS[name].value not in (None, [], "")
    }


def check(path, unknown=()):
    """Refuses to resume a run with flags that differ from its flag file.

    More epochs extend a run, unless what it did depends on their number.

    Args:
        path: str, a file written by `write`.
        unknown: names of flags that may not be known yet; they are checked
            only if given.

    Returns:
        bool, whether the run is extended.

    Raises:
        UsageError: if flags differ, naming them.
    """
    try:
        with open(path, encoding="utf-8") as file:
            theirs = _by_name(file.read().split("\n"))
    except (OSError, UnicodeDecodeError) as error:
        raise errors.UsageError(f"{path} cannot be read: {error}") from error
    mine = _lines()
    differences = []
    extends = _extends(mine, theirs)
    for name in {**mine, **theirs}:
        if name == "epochs" and extends:
            continue
        if name in unknown and name not in mine:
            continue
        if name not in theirs and FLAGS[name].using_default_value:
            continue  # The run is older than the flag.
        former = experiment_flags.FORMER_DEFAULTS.get(name)
        if name not in mine and former and theirs[name] == f"--{name}":
            continue
        if mine.get(name) != theirs.get(name):
            was = theirs.get(name) or f"without --{name}"
            now = mine.get(name) or f"without --{name}"
            differences.append(f"{now} (it was: {was})")
    if differences:
        raise errors.UsageError(
            "--workdir contains a run with different flags; use "
            f"--flagfile={path} to resume it. Received: "
            f"{', '.join(differences)}"
        )
    return extends


def _extends(mine, theirs):
    """Whether there are more epochs than in a flag file, and may be."""
    if FLAGS.finish_with or FLAGS.learning_rate_schedule == "cosine":
        return False
    epochs = theirs.get("epochs", "").rpartition("=")[2]
    return epochs.isdecimal() and int(epochs) < FLAGS.epochs


def _by_name(lines):
    """Dict from names of flags to lines of a flag file."""
    found = {}
    for line in filter(None, lines):
        name = line.lstrip("-").partition("=")[0]
        if name not in FLAGS and name.startswith("no"):
            name = name[2:]
        found[name] = line
    return found
