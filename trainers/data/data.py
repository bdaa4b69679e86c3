"""A dataset to train and test on, in batches."""

import dataclasses

import tensorflow as tf

_SHUFFLE_BUFFER = 50_000


@dataclasses.dataclass
class Data:
    """A training and a test set of labelled examples.

    Attributes:
        train: `tf.data.Dataset` of single examples, tuples of an input and an
            integer label or labels, and possibly a weight.
        test: the same.
        num_train: int, number of examples in `train`.
        num_test: int, the same in `test`.
        num_classes: int; labels are from 0 to `num_classes - 1`.
        device: str, where the data are read, or `None` for this machine.
    """

    train: tf.data.Dataset
    test: tf.data.Dataset
    num_train: int
    num_test: int
    num_classes: int
    device: str | None

    @property
    def input_spec(self):
        """Nest of `tf.TensorSpec` of one example, as networks receive it."""
        return self.train.element_spec[0]

    def suit(self, inputs):
        """Adapts the examples to the inputs of a network.

        Args:
            inputs: nest of symbolic tensors.
        """

    def prepare(self, *batch):
        """Prepares a batch of examples for a network."""
        return batch

    def augment(self, *batch_and_seed):
        """As `prepare`, for training, with a seed of two numbers last."""
        return self.prepare(*batch_and_seed[:-1])

    def train_batches(self, batch_size, seed, drop_remainder=False):
        """Shuffled and augmented batches of one epoch.

        Each iteration over them has a new order and new augmentations; the
        sequence of epochs is a function of the seed.

        Args:
            batch_size: int; the last batch of an epoch may be smaller.
            seed: int.
            drop_remainder: bool, whether to drop the last batch of an epoch
                if it is smaller.

        Returns:
            `tf.data.Dataset` of batches.
        """
        with tf.device(self.device):
            batches = (
                self.train.cache()
                .shuffle(min(self.num_train, _SHUFFLE_BUFFER), seed=seed)
                .batch(batch_size, drop_remainder)
            )
            seeds = tf.data.Dataset.random(
                seed, rerandomize_each_iteration=True
            )
            return _with_options(
                tf.data.Dataset.zip(batches, seeds.batch(2)).map(
                    lambda batch, seed: self.augment(*batch, seed)
                )
            )

    def test_batches(self, batch_size):
        """Batches of the test set, in a fixed order.

        Args:
            batch_size: int.

        Returns:
            `tf.data.Dataset` of batches.
        """
        return self._plain_batches(self.test, batch_size)

    def plain_train_batches(self, batch_size):
        """Batches of the training set, as `test_batches`."""
        return self._plain_batches(self.train, batch_size)

    def _plain_batches(self, examples, batch_size):
        with tf.device(self.device):
            return _with_options(
                examples.batch(batch_size).map(self.prepare).cache()
            )


def _with_options(dataset):
    options = tf.data.Options()
    options.deterministic = True
    # Autotune threads sleep for seconds, and an epoch's end waits for them; the
    # steps are too cheap for tuning anyway.
    options.autotune.enabled = False
    options.threading.private_threadpool_size = 1
    return dataset.prefetch(4).with_options(options)
