"""The position in the data, from which an interrupted epoch resumes."""

import collections
import itertools

from fr_keras.batches.reading import draw_function
from fr_keras.engine import private


class DataPosition:
    """The position of a call of `fit` in its data.

    This is the number of iterators created over the data, and the number of
    batches read from the last. Creating an iterator advances the shuffling and
    reads nothing. So resumed training gets the same data as uninterrupted
    training, if the data depend only on the number of iterators created:
    arrays, and a `tf.data.Dataset` whose random parts have seeds.

    Args:
        epoch_iterator: Keras' iterator of the call of `fit`, before its first
            epoch.
    """

    def __init__(self, epoch_iterator):
        self._epoch_iterator = private.EpochIterator(epoch_iterator)
        self._data = _Counted(self._epoch_iterator.data)
        self._epoch_iterator.data = self._data

    def get(self):
        """Returns the position between two batches, a dict for JSON of ints."""
        return {
            "iterators": self._data.iterators,
            "drawn": self._data.drawn,
            "steps_seen": self._epoch_iterator.steps_seen,
            "num_batches": self._epoch_iterator.num_batches,
        }

    def set(self, position, batch):
        """Lets the first epoch of `fit` start where another was interrupted.

        Args:
            position: as returned by `get`.
            batch: int, number of batches of that epoch already trained on; 0
                if it had not begun.
        """
        epochs = self._epoch_iterator
        if epochs.num_batches is None:
            # Keras knows this after an epoch.
            epochs.num_batches = position["num_batches"]
        enumerate_epoch = epochs.enumerate_epoch
        continues = epochs.steps_per_epoch and position["iterators"]

        def enumerate_rest():
            epochs.restore_enumerate_epoch()  # Later epochs are complete.
            # If the iterator is not kept between epochs, Keras creates one
            # when an epoch begins.
            is_made_later = bool(batch) or bool(continues)
            for _ in range(position["iterators"] - is_made_later):
                iter(self._data)
            if continues:
                current = iter(self._data)
                _drop(current, position["drawn"])
                epochs.set_current(current)
                epochs.steps_seen = position["steps_seen"] - batch
            yield from self._rest(enumerate_epoch(), batch, bool(continues))

        epochs.enumerate_epoch = enumerate_rest

    def _rest(self, steps, batch, is_drawn):
        """Yields the rest of an epoch after some of its batches."""
        num_batches = self._epoch_iterator.num_batches
        for begin, end, iterator in steps:
            over = min(max(0, batch - begin), end - begin + 1)
            if not is_drawn:
                _drop(iterator, over)
            if begin + over > end or (
                over and num_batches and begin + over >= num_batches
            ):
                continue
            if over and not num_batches:
                # Perhaps the call was short because the data had ended: Keras,
                # which counts whole calls, must find their end as late.
                iterator = _unless_exhausted(iterator)
                if iterator is None:
                    continue
            yield begin + over, end, iterator


class _Counted:
    """A dataset that counts its iterators and batches.

    Attributes:
        iterators: int, number of iterators created.
        drawn: int, number of batches drawn from the last iterator.
    """

    def __init__(self, dataset):
        self._dataset = dataset
        self.iterators = 0
        self.drawn = 0

    def __iter__(self):
        iterator = iter(self._dataset)
        self.iterators += 1
        self.drawn = 0
        return _CountedIterator(self, iterator)


class _CountedIterator:
    def __init__(self, counted, iterator):
        self._counted = counted
        self._iterator = iterator
        self._draw = draw_function(iterator)

    def __iter__(self):
        return self

    def __next__(self):
        batch = self._draw(self._iterator)
        self._counted.drawn += 1
        return batch


def _unless_exhausted(iterator):
    """Returns an equivalent iterator, or `None` if nothing is left."""
    for first in iterator:
        return itertools.chain([first], iterator)
    return None


def _drop(iterator, count):
    collections.deque(itertools.islice(iterator, count), maxlen=0)
