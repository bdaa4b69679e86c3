"""Checkpoint files, written completely and read only if undamaged."""

import contextlib
import glob
import json
import os
import re
import shutil

import tensorflow as tf

from fr_keras.callbacks.checkpoints import durable
from fr_keras.engine import placement

_NAME = "ckpt"
_KEY = "{}/.ATTRIBUTES/VARIABLE_VALUE"


class Damaged(Exception):
    """A checkpoint that cannot be read."""


class Store:
    """The checkpoints in a directory, in TensorFlow's format.

    A new checkpoint is on disk before an old one is deleted. Existing ones are
    found by their own files, because TensorFlow's `checkpoint` file, which
    lists them, may be missing, damaged or name files elsewhere.

    Args:
        directory: str or path, created when needed.
        keep: int, number of checkpoints to keep.
    """

    def __init__(self, directory, keep):
        self.directory = os.path.abspath(os.fspath(directory))
        self.keep = keep

    def prefixes(self):
        """Returns the list of the checkpoints' path prefixes, oldest first.

        Raises:
            OSError: if the directory exists but cannot be read.
        """
        return [os.path.join(self.directory, f"{_NAME}-{n}")
                for n in self._numbers()]

    def _numbers(self):
        try:
            names = os.listdir(self.directory)
        except FileNotFoundError:
            return []
        found = (re.fullmatch(rf"{_NAME}-(\d{{1,18}})\.index", name)
                 for name in names)
        return sorted(int(match.group(1)) for match in found if match)

    def write(self, snapshot):
        """Writes a checkpoint, and deletes the oldest if there are too many.

        Args:
            snapshot: `Snapshot`.

        Returns:
            str, the prefix of its files' paths.

        Raises:
            OSError, tf.errors.OpError: if it cannot be written; all others
                still exist, and nothing is left of this one.
        """
        durable.make_directory(self.directory)
        number = max(self._numbers(), default=0) + 1
        prefix = os.path.join(self.directory, f"{_NAME}-{number}")
        try:
            self._remove_parts()  # Left by a killed process.
            snapshot.checkpoint().write(prefix, options=_options())
            self._sync(prefix)
        except (OSError, tf.errors.OpError):
            with contextlib.suppress(OSError):
                with contextlib.suppress(FileNotFoundError):
                    os.remove(f"{prefix}.index")
                self._remove_parts()
            raise
        # It is safely on disk; now the others may go.
        with contextlib.suppress(OSError, tf.errors.OpError):
            self._delete(self._numbers()[:-self.keep])
            self._list_for_tensorflow()
        return prefix

    def _sync(self, prefix):
        """Waits until a checkpoint is on the disk."""
        for path in self._files(int(prefix.rpartition("-")[2])):
            durable.sync(path)
        durable.sync(self.directory)

    def _files(self, number):
        """The files of a checkpoint, the index first."""
        prefix = os.path.join(self.directory, f"{_NAME}-{number}.")
        return [
            f"{prefix}index", *sorted(glob.glob(
                f"{glob.escape(prefix)}data-*-of-*"
            )),
        ]

    def _delete(self, numbers):
        """Deletes checkpoints, so that no part can be mistaken for one."""
        for number in numbers:
            for path in self._files(number):
                os.remove(path)

    def _list_for_tensorflow(self):
        """Lists the existing checkpoints in TensorFlow's own file.

        This is for `tf.train.latest_checkpoint`; nothing here reads it.
        """
        prefixes = self.prefixes()
        tf.__internal__.train.update_checkpoint_state(
            self.directory, prefixes[-1], prefixes,
            # Their ages do not matter.
            all_model_checkpoint_timestamps=[1.0] * len(prefixes),
            last_preserved_timestamp=0.0,
        )

    def _remove_parts(self):
        """Removes the remains of checkpoints that were not completed."""
        numbers = {str(number) for number in self._numbers()}
        for name in os.listdir(self.directory):
            match = re.fullmatch(
                rf"{_NAME}-(\d+)(_temp|\.data-\d+-of-\d+.*)", name
            )
            path = os.path.join(self.directory, name)
            if match and match.group(2) == "_temp":
                shutil.rmtree(path, ignore_errors=True)
            elif match and match.group(1) not in numbers:
                os.remove(path)


def _options():
    # In a cluster, only the program's own machine has these files.
    return tf.train.CheckpointOptions(
        experimental_io_device=placement.this_host()
    )


def read_manifest(prefix):
    """Reads a checkpoint's description of itself.

    Args:
        prefix: str, the prefix of its files' paths.

    Returns:
        Dict, as passed to `Snapshot`.

    Raises:
        Damaged: if it cannot be read.
    """
    with _raising_damaged():
        reader = tf.train.load_checkpoint(prefix)
        return json.loads(reader.get_tensor(_KEY.format("manifest")))


def read_arrays(prefix, count):
    """Reads the arrays that a manifest refers to.

    Args:
        prefix: str.
        count: int, the number of arrays.

    Returns:
        List of arrays.

    Raises:
        Damaged: if they cannot be read.
    """
    with _raising_damaged():
        reader = tf.train.load_checkpoint(prefix)
        return [
            reader.get_tensor(_KEY.format(f"arrays/{i}")) for i in range(count)
        ]


def read_variables(prefix, variables):
    """Sets variables to the values in a checkpoint.

    Args:
        prefix: str.
        variables: dict as for `Snapshot`; groups may be left out.

    Raises:
        Damaged: if they cannot be read; some may be set already.
    """
    with _raising_damaged():
        checkpoint = tf.train.Checkpoint(**variables)
        status = checkpoint.read(prefix, _options())
        status.assert_existing_objects_matched()
        status.expect_partial()  # For groups left out.


@contextlib.contextmanager
def _raising_damaged():
    """Raises `Damaged` for TensorFlow's errors on damaged files."""
    # Its reader has no exception of its own: damage shows as missing keys, odd
    # shapes, invalid strings.
    try:
        yield
    except Exception as error:
        raise Damaged(reason(error)) from error


def reason(error):
    """Returns the message of a TensorFlow or Python error, in one line."""
    lines = str(getattr(error, "message", None) or error).strip().splitlines()
    # The text before braces names TensorFlow's own functions.
    return lines[0].rpartition("}} ")[2] if lines else type(error).__name__
