"""The position in the data: an epoch that goes on where it was left."""

import collections
import itertools

from fr_keras.batches.reading import draw
from fr_keras.engine import private


class DataPosition:
    """Where a call of `fit` is in its data.

    That is how often it has begun to iterate over them, and how many batches
    it has read since. Beginning moves on what shuffles, and reads nothing. So
    the data of a training that goes on are those of one that was never
    interrupted, if they are a function of how often they were begun: arrays,
    and a `tf.data.Dataset` whose random parts have seeds.

    Args:
        epoch_iterator: Keras' iterator of the call of `fit`, before its first
            epoch.
    """

    def __init__(self, epoch_iterator):
        self._epoch_iterator = private.EpochIterator(epoch_iterator)
        self._data = _Counted(self._epoch_iterator.data)
        self._epoch_iterator.data = self._data

    def get(self):
        """The position, a dict of ints for JSON, between two batches."""
        return {
            "iterators": self._data.iterators,
            "drawn": self._data.drawn,
            "steps_seen": self._epoch_iterator.steps_seen,
            "num_batches": self._epoch_iterator.num_batches,
        }

    def set(self, position, batch):
        """Lets the first epoch of `fit` begin where another was left.

        Args:
            position: as `get` returned it.
            batch: int, how many batches of that epoch were trained on; 0 if
                it had not begun.
        """
        epochs = self._epoch_iterator
        if epochs.num_batches is None:
            # Keras knows it after an epoch.
            epochs.num_batches = position["num_batches"]
        enumerate_epoch = epochs.enumerate_epoch
        goes_on = epochs.steps_per_epoch and position["iterators"]

        def enumerate_rest():
            epochs.restore_enumerate_epoch()  # Later epochs are whole.
            # If the iterator is not kept from epoch to epoch, Keras makes one
            # when an epoch begins.
            is_made_later = bool(batch) or bool(goes_on)
            for _ in range(position["iterators"] - is_made_later):
                iter(self._data)
            if goes_on:
                current = iter(self._data)
                _drop(current, position["drawn"])
                epochs.set_current(current)
                epochs.steps_seen = position["steps_seen"] - batch
            yield from self._rest(enumerate_epoch(), batch, bool(goes_on))

        epochs.enumerate_epoch = enumerate_rest

    def _rest(self, steps, batch, is_drawn):
        """What is left of an epoch of which some batches are over."""
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
                # The call was short since the data were over, perhaps: Keras,
                # which counts by whole calls, must find their end as late.
                iterator = _unless_over(iterator)
                if iterator is None:
                    continue
            yield begin + over, end, iterator


class _Counted:
    """A dataset that counts.

    Attributes:
        iterators: int, how often it was iterated over.
        drawn: int, the batches that were drawn since the last time.
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

    def __iter__(self):
        return self

    def __next__(self):
        batch = draw(self._iterator)
        self._counted.drawn += 1
        return batch


def _unless_over(iterator):
    """An iterator over the same, or `None` if nothing is left."""
    for first in iterator:
        return itertools.chain([first], iterator)
    return None


def _drop(iterator, count):
    collections.deque(itertools.islice(iterator, count), maxlen=0)
