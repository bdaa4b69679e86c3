"""Flags and callbacks for checkpoints, signals and non-finite numbers."""

import glob
import os

from absl import flags

import fr_keras
from trainers.command import errors, signals, workdir

FLAGS = flags.FLAGS

flags.DEFINE_integer(
    "checkpoint_steps", 0,
    "Iterations between checkpoints; 0: iterations trigger none.",
    lower_bound=0, upper_bound=1_000_000_000,
)
flags.DEFINE_float(
    "checkpoint_minutes", 10.0,
    "Minutes between checkpoints; 0: time triggers none."
)
flags.DEFINE_integer(
    "checkpoint_epochs", 1,
    "Epochs between checkpoints; 0: only after the last epoch. The checkpoint "
    "with the best test accuracy is kept in addition.",
    lower_bound=0, upper_bound=1_000_000,
)
flags.DEFINE_integer(
    "keep_checkpoints", 3, "Number of newest checkpoints to keep.",
    lower_bound=2, upper_bound=1000,
)
flags.DEFINE_enum(
    "on_nan", "stop", ["stop", "skip"],
    "If a loss or gradient is not finite: stop the run, or skip the update of "
    "the module and count it.",
)
flags.register_validator(
    "checkpoint_minutes",
    lambda minutes: 0 <= minutes < float("inf"),
    "must be at least 0 and finite",
)


def checkpoints(folder, logs):
    """The callback that writes checkpoints.

    Args:
        folder: str, the working directory of the run.
        logs: list of files and directories that grow with the run.

    Returns:
        `fr_keras.Checkpoints`.
    """
    return fr_keras.Checkpoints(
        os.path.join(folder, workdir.CHECKPOINTS),
        every_steps=FLAGS.checkpoint_steps or None,
        every_minutes=FLAGS.checkpoint_minutes or None,
        every_epochs=FLAGS.checkpoint_epochs or None,
        keep=FLAGS.keep_checkpoints,
        monitor="val_accuracy",
        mode="max",
        logs=logs,
    )


def callbacks(stop, kept):
    """The callbacks that end a run gracefully.

    Args:
        stop: `signals.Signals`.
        kept: `fr_keras.Checkpoints`.

    Returns:
        Tuple of `keras.callbacks.Callback`s: the first to be called, and the
        last before `kept`.
    """
    return fr_keras.OnNaN(FLAGS.on_nan), signals.StopOnSignal(stop, kept)


def has_begun(folder):
    """Whether a run has checkpoints to resume from.

    Args:
        folder: str, its working directory.
    """
    return bool(glob.glob(
        os.path.join(
            glob.escape(folder), workdir.CHECKPOINTS, "**", "*.index"
        ),
        recursive=True,
    ))


def restore_weights(model, folder):
    """Starts from the weights of another run.

    Args:
        model: algorithm.
        folder: str, the working directory of the other run.

    Raises:
        UsageError: if it has no matching checkpoint.
    """
    try:
        prefix = fr_keras.restore_weights(
            model, os.path.join(folder, workdir.CHECKPOINTS)
        )
    except (ValueError, OSError) as error:
        raise errors.UsageError(f"--restore_weights_from: {error}") from error
    print(f"Starting with the weights of {prefix}", flush=True)
