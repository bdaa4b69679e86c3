r"""`trainers.train`, in which something goes wrong.

    python -m tests.injected_train INJECTION --flagfile=...

It stands for what cannot be brought about from outside. (On machines where
tests run as root, any file can be written.)
"""

import errno
import fcntl
import os
import sys
import time

# First, since it keeps TensorFlow quiet.
from trainers import train  # isort: skip

import numpy as np
import tensorflow as tf

import fr_keras
from fr_keras.callbacks.checkpoints import manifest
from trainers.command import errors
from trainers.data.data import Data


def nan_in_data():
    """A NaN in the third mini-batch of every epoch."""
    train_batches = Data.train_batches

    def spoil(i, batch):
        images, labels = batch
        return images + tf.where(tf.equal(i, 2), np.float32("nan"), 0), labels

    Data.train_batches = lambda *args: (
        train_batches(*args).enumerate().map(spoil)
    )


def nan_in_gradient():
    """A NaN in the gradient of module 2 in its seventh update."""

    class Spoiled(fr_keras.OnNaN):
        def on_train_begin(self, logs=None):
            super().on_train_begin(logs)
            module = self.model.pipeline.modules[1]
            update = module.update
            with tf.device(module.device):
                count = tf.Variable(0)

            def spoiled(gradients, learning_rate, *is_due):
                is_seventh = tf.equal(count.assign_add(1), 7)
                return update([
                    tf.where(is_seventh, np.nan * g, g) for g in gradients
                ], learning_rate, *is_due)

            module.update = spoiled

    fr_keras.OnNaN = Spoiled


def _while_epoch(number, begin, end):
    """Calls functions when an epoch begins, and when the next one does."""
    build = train.reliability.checkpoints

    def checkpoints(workdir, logs):
        kept = build(workdir, logs)
        on_epoch_begin = kept.on_epoch_begin

        def begun(epoch, logs=None):
            on_epoch_begin(epoch, logs)
            if epoch == number:
                begin(workdir)
            if epoch == number + 1:
                end(workdir)

        kept.on_epoch_begin = begun
        return kept

    train.reliability.checkpoints = checkpoints


def no_space():
    """No space left on the device, in the second epoch."""
    write = tf.train.Checkpoint.write

    def fail(*args, **kwargs):
        raise tf.errors.ResourceExhaustedError(
            None, None, "ckpt-2_temp; No space left on device"
        )

    def begin(_):
        tf.train.Checkpoint.write = fail

    def end(_):
        tf.train.Checkpoint.write = write

    _while_epoch(1, begin, end)


def io_error():
    """What is written does not get to the disk, in the second epoch."""
    sync = os.fsync

    def fail(descriptor):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    def begin(_):
        os.fsync = fail

    def end(_):
        os.fsync = sync

    _while_epoch(1, begin, end)


def no_locks():
    """A file system that has no locks, as some of networks."""

    def fail(descriptor, operation):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    fcntl.flock = fail


def clock():
    """The clock of the machine jumps back by a day, in the second epoch."""
    now = time.time

    def begin(_):
        time.time = lambda: now() - 86_400

    _while_epoch(1, begin, lambda _: None)


def no_directory():
    """A file in place of the directory of checkpoints, in the second epoch."""

    def begin(workdir):
        folder = os.path.join(workdir, "checkpoints")
        os.rename(folder, folder + ".away")
        open(folder, "w").close()

    def end(workdir):
        folder = os.path.join(workdir, "checkpoints")
        os.remove(folder)
        os.rename(folder + ".away", folder)

    _while_epoch(1, begin, end)


def other_format():
    """Checkpoints as another version of the library would write them."""
    manifest.FORMAT = 99


if __name__ == "__main__":
    globals()[sys.argv.pop(1)]()
    errors.run(train.main)
