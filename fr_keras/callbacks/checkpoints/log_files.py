"""Files that grow while a network trains, cut back to a checkpoint."""

import collections
import os

import keras
import tensorflow as tf

from fr_keras.callbacks.checkpoints import durable


class LogFiles:
    """The files that callbacks append to.

    They are part of a training: one that goes on from a checkpoint repeats
    what came after it, and would log that twice.

    Args:
        paths: iterable of str or path, files, and directories of which all
            event files of TensorBoard count.
        callbacks: list of `keras.callbacks.Callback`. What Keras' TensorBoard
            and CSVLogger write is found by itself, and all writers of
            summaries that callbacks hold are flushed when a checkpoint is
            written.
        writers: `Writers`, by which the event files of this training are told
            from others in the same directory.
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
        """How long the files are, with all that was logged.

        Returns:
            Dict from what writes to a dict from names of files to bytes.
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
        """Waits until all that was logged is on the disk.

        Args:
            sizes: as `sizes` returned it.

        Raises:
            OSError: if a file is not there any more, or the disk fails.
        """
        for key, names in sizes.items():
            for name in names:
                path = self._paths[key]
                durable.sync(os.path.join(path, name) if name else path)

    def cut_back(self, sizes):
        """Makes the files as long as they were.

        Files that this training has made since are removed; only those are
        touched that logs are written to, and were then.

        Args:
            sizes: as `sizes` returned it.
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
    """Checks that sizes are as `LogFiles.sizes` returns them.

    Raises:
        ValueError: in one line, if not.
    """
    if not all(
        isinstance(of_key, dict)
        and all(type(size) is int and size >= 0 for size in of_key.values())
        for of_key in sizes.values()
    ):
        raise ValueError(
            "The sizes of log files are not as they were written. "
            f"Received: {sizes!r:.60}"
        )


def _files(path):
    """Pairs of name and path of the log files that there are."""
    if os.path.isfile(path):
        return [("", path)]
    if not os.path.isdir(path):
        return []
    return [
        (name, os.path.join(path, name)) for name in sorted(os.listdir(path))
        if "tfevents" in name and os.path.isfile(os.path.join(path, name))
        # What it leads to is not this training's.
        and not os.path.islink(os.path.join(path, name))
    ]


def _writers(callback):
    """The writers of summaries that a callback holds."""
    for value in list(vars(callback).values()):
        values = value.values() if isinstance(value, dict) else [value]
        for candidate in values:
            if isinstance(candidate, tf.summary.SummaryWriter):
                yield candidate
