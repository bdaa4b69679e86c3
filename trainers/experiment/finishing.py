"""The last epochs of a run, trained by an exact algorithm: `--finish_with`."""

import contextlib
import os

import keras
from absl import flags

import fr_keras
from trainers.command import errors
from trainers.experiment.experiment_flags import ALGORITHM_FLAGS

FLAGS = flags.FLAGS

# Subdirectory of the run's working directory.
_FOLDER = "finish"


def first_epochs():
    """The number of epochs before the last ones.

    Raises:
        UsageError: if there are none, or the learning rate would still warm
            up in the last ones.
    """
    first = FLAGS.epochs - _last_epochs()
    if first < 1 or (FLAGS.finish_with and first < FLAGS.warmup_epochs):
        raise errors.UsageError(
            "--finish_with must leave at least one of --epochs="
            f"{FLAGS.epochs}, and all of --warmup_epochs="
            f"{FLAGS.warmup_epochs:g}. Received: {FLAGS.finish_with}"
        )
    return first


def _last_epochs():
    return int(FLAGS.finish_with.partition(":")[2] or 0)


@contextlib.contextmanager
def flags_of_last_epochs():
    """Makes the flags describe the last epochs as a separate run.

    It starts from the weights of the run so far, continues its learning rate
    and has a subdirectory of its working directory.
    """
    first = first_epochs()
    algorithm, _, last = FLAGS.finish_with.partition(":")
    drops = [int(epoch) for epoch in FLAGS.learning_rate_drops]
    of_others = {*sum(ALGORITHM_FLAGS.values(), ())} - {
        *ALGORITHM_FLAGS[algorithm]
    }
    values = {name: FLAGS[name].default for name in of_others} | {
        "algorithm": algorithm,
        "epochs": int(last),
        "finish_with": "",
        "learning_rate": FLAGS.learning_rate * FLAGS.learning_rate_factor
        ** sum(drop <= first for drop in drops),
        "learning_rate_drops": [
            str(drop - first) for drop in drops if drop > first
        ],
        "warmup_epochs": 0.0,
        "restore_weights_from": FLAGS.workdir,
        # A different order of the examples than in the first epochs.
        "seed": (FLAGS.seed + 1) % 2**31,
        "workdir": os.path.join(FLAGS.workdir, _FOLDER),
    }
    before = {name: FLAGS[name].value for name in values}
    try:
        _set(values)
        yield
    finally:
        _set(before)


def _set(values):
    for name, value in values.items():
        setattr(FLAGS, name, value)


class Drain(keras.callbacks.Callback):
    """Lets late modules learn from all batches before the last epochs.

    Runs before the last checkpoint is written, because the last epochs start
    from its weights.
    """

    def on_epoch_end(self, epoch, logs=None):
        if (
            FLAGS.finish_with and epoch + 1 == first_epochs()
            and isinstance(self.model, fr_keras.FeaturesReplay)
        ):
            self.model.drain()
