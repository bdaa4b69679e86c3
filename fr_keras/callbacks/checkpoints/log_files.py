"""Log files, truncated to the state of a checkpoint."""

import collections
import os

import keras
import tensorflow as tf

from fr_keras.callbacks.checkpoints import durable


class LogFiles:
    """The files that callbacks append to.

    They are part of a training: resuming from a checkpoint repeats the steps
    after it, which would be logged twice.

    Args:
        paths: iterable of str or path, files, and directories, in which all
            TensorBoard event files count.
        callbacks: list of `keras.callbacks.Callback`. Files of Keras'
            TensorBoard and CSVLogger are found automatically, and all summary
            writers of the callbacks are flushed when a checkpoint is written.
        writers: `Writers`, which tells the event files of this training from
            others in the same directory.
    """

    def __init__(self, paths, callbacks, writers):
        self._writers = writers
        self._paths = {
            f"logs_{i}": os.path.abspath(os.fspath(path))
            for i, path in enumerate(paths)
        }
        self._callbacks = callbacks
        counts = collections.Counter()
        for callback in callbacks:
            name = type(callback).__name__
            key = f"{name}_{counts[name]}"
            counts[name] += 1
            if isinstance(callback, keras.callbacks.TensorBoard):
                for split in ("train", "validation"):
                    self._paths[f"{key}/{split}"] = os.path.join(
                        os.path.abspath(callback.log_dir), split
                    )
            elif isinstance(callback, keras.callbacks.CSVLogger):
                self._paths[key] = os.path.abspath(callback.filename)

    def __bool__(self):
        return bool(self._paths)

    def sizes(self):
        """Returns the sizes of the files, with everything logged so far.

        Returns:
            Dict from the source of logs to a dict from file name to bytes.
        """
        for callback in self._callbacks:
            for writer in _writers(callback):
                writer.flush()
        sizes = {}
        for key, path in self._paths.items():
            sizes[key] = {}
            for name, file in _files(path):
                if name and not self._writers.have_written(name):
                    continue
                sizes[key][name] = os.path.getsize(file)
        return sizes

    def sync(self, sizes):
        """Waits until all logs are on disk.

        Args:
            sizes: as returned by `sizes`.

        Raises:
            OSError: if a file no longer exists, or the disk fails.
        """
        for key, names in sizes.items():
            for name in names:
                path = self._paths[key]
                durable.sync(os.path.join(path, name) if name else path)

    def truncate(self, sizes):
        """Truncates the files to earlier sizes.

        Files that this training has created since are removed. Only logs that
        are written now and were written then are touched.

        Args:
            sizes: as returned by `sizes`.
        """
        for key in self._paths.keys() & sizes.keys():
            for name, file in _files(self._paths[key]):
                size = sizes[key].get(name, 0)
                if name not in sizes[key] and not (
                    self._writers.have_written(name)
                ):
                    continue  # Another training's.
                if os.path.getsize(file) <= size:
                    continue
                if size:
                    os.truncate(file, size)
                else:
                    os.remove(file)


def check_sizes(sizes):
    """Checks that sizes have the form returned by `LogFiles.sizes`.

    Raises:
        ValueError: in one line, if not.
    """
    if not all(
        isinstance(of_key, dict)
        and all(type(size) is int and size >= 0 for size in of_key.values())
        for of_key in sizes.values()
    ):
        raise ValueError(
            "Its sizes of log files must be integers, at least 0. "
            f"Received: {sizes!r:.60}"
        )


def _files(path):
    """Pairs of name and path of the existing log files."""
    if os.path.isfile(path):
        return [("", path)]
    if not os.path.isdir(path):
        return []
    return [
        (name, os.path.join(path, name)) for name in sorted(os.listdir(path))
        if "tfevents" in name and os.path.isfile(os.path.join(path, name))
        # The target of a link does not belong to this training.
        and not os.path.islink(os.path.join(path, name))
    ]


def _writers(callback):
    """Yields the summary writers of a callback."""
    for value in list(vars(callback).values()):
        values = value.values() if isinstance(value, dict) else [value]
        for candidate in values:
            if isinstance(candidate, tf.summary.SummaryWriter):
                yield candidate
