"""Shards: the parts of a mini-batch for the pipelines of replicas."""

import typing

import keras
import tensorflow as tf


class Share(typing.NamedTuple):
    """What part of its mini-batch a shard is.

    Floating-point numbers, since they are kept with the inputs of modules,
    and GPUs keep no integers of 32 bits.

    Attributes:
        size: scalar tensor of dtype float64, the number of examples, 0 for an
            empty shard.
        total: scalar tensor of dtype float64, the number of examples in the
            mini-batch.
    """

    size: tf.Tensor
    total: tf.Tensor

    def weight(self, dtype):
        """Returns the weight of the shard's losses, a scalar tensor."""
        return tf.cast(self.size / self.total, dtype)

    def counts(self):
        """Whether the shard has examples, a scalar bool tensor."""
        return self.size > 0


class Shard(typing.NamedTuple):
    """A mini-batch, or a part of it.

    Attributes:
        x: nest of tensors, the input of the first module.
        y: nest of tensors, the labels.
        sample_weight: nest of tensors or `None`.
        share: `Share`, or `None` if it is a whole mini-batch.
    """

    x: object
    y: object
    sample_weight: object
    share: Share | None = None


def split(batch, count, device):
    """Splits a mini-batch into shards whose sizes differ by at most 1.

    If it has fewer examples than there are shards, the last ones are empty: to
    have something to compute with, each consists of the first example, but with
    a share of 0.

    Args:
        batch: tuple `(x, y, sample_weight)`.
        count: int, the number of shards.
        device: full device name, where the batch is.

    Returns:
        List of `count` `Shard`s.
    """
    if count == 1:
        return [Shard(*batch)]
    with tf.device(device):
        total = _num_examples(batch)
        smaller, larger = total // count, total % count
        shards, start = [], tf.zeros_like(total)
        for i in range(count):
            size = smaller + tf.cast(i < larger, total.dtype)
            begin = tf.where(size > 0, start, tf.zeros_like(start))
            end = begin + tf.maximum(size, 1)
            share = Share(*(tf.cast(n, tf.float64) for n in (size, total)))
            shards.append(Shard(*_part(batch, begin, end), share))
            start += size
    return shards


def check(batch):
    """Rejects a mini-batch that cannot be split into shards.

    Args:
        batch: tuple `(x, y, sample_weight)` of nests of tensors.

    Raises:
        ValueError: if its tensors do not have one entry for each example.
    """
    sizes = {
        None if not leaf.shape.rank
        else int(leaf.nrows()) if isinstance(leaf, tf.RaggedTensor)
        else leaf.shape[0]
        for leaf in tf.nest.flatten(batch) if leaf is not None
    }
    if len(sizes) > 1 or None in sizes:
        shapes = keras.tree.map_structure(
            lambda leaf: None if leaf is None else tuple(leaf.shape), batch
        )
        raise ValueError(
            "With `replicas`, every mini-batch is split between pipelines, so "
            "the first dimension of all its tensors must be the number of "
            f"examples. Received: (x, y, sample_weight) of shapes {shapes}"
        )
    if sizes == {0}:
        raise ValueError(
            "With `replicas`, a mini-batch must have at least one example. "
            "Received: an empty mini-batch"
        )


def _num_examples(batch):
    leaves = [leaf for leaf in tf.nest.flatten(batch) if leaf is not None]
    return tf.cast(_length(leaves[0]), tf.int64)


def _length(leaf):
    """Returns the size of the first dimension of any kind of tensor."""
    if isinstance(leaf, tf.RaggedTensor):
        return leaf.nrows()
    if isinstance(leaf, tf.SparseTensor):
        return leaf.dense_shape[0]
    return tf.shape(leaf)[0]


def _part(batch, begin, end):
    """Returns the examples of a batch from `begin` up to `end`."""

    def part(leaf):
        if leaf is None:
            return None
        if isinstance(leaf, tf.SparseTensor):
            shape = leaf.dense_shape
            return tf.sparse.slice(
                leaf,
                tf.concat([[begin], tf.zeros_like(shape[1:])], 0),
                tf.concat([[end - begin], shape[1:]], 0),
            )
        return leaf[begin:end]

    return tf.nest.map_structure(part, batch)

