"""The spec of the batches for which a training function is traced."""

import base64
import binascii

import keras
import tensorflow as tf
from google.protobuf import message
from tensorflow.core.protobuf import struct_pb2

from fr_keras.engine import structures


def standardize_batch(batch):
    """Unpacks a batch that an iterator yields.

    Args:
        batch: as yielded by Keras' data adapters: `x`, `(x,)`, `(x, y)` or
            `(x, y, sample_weight)`, each a nest of arrays or tensors.

    Returns:
        Tuple `(x, y, sample_weight)` of nests of tensors, `None` for missing
        parts.
    """

    def to_tensor(leaf):
        if leaf is None or isinstance(leaf, tf.experimental.Optional):
            return None
        if isinstance(leaf, tf.__internal__.CompositeTensor):
            return leaf
        return tf.convert_to_tensor(leaf)

    batch = keras.utils.unpack_x_y_sample_weight(batch)
    if all(
        leaf is None or isinstance(leaf, tf.Tensor)
        for leaf in tf.nest.flatten(batch)
    ):
        return batch  # As usual, and quicker than mapping.
    return tf.nest.map_structure(to_tensor, batch)


class BatchSpec:
    """Structure, dtypes and shapes of batches of any size.

    Args:
        batch: nest of tensors and `None`. The first dimension of every tensor
            is taken as the batch dimension, and may have any length.
    """

    def __init__(self, batch):
        self.structure = tf.nest.map_structure(_leaf_spec, batch)
        self._covered = set()  # Signatures of batches, tried before.

    @classmethod
    def from_string(cls, text):
        """Restores the spec serialized by `to_string`.

        Raises:
            ValueError: if the text is not such a string.
        """
        spec = cls(None)
        proto = struct_pb2.StructuredValue()
        try:
            proto.ParseFromString(base64.b64decode(text, validate=True))
        except (binascii.Error, message.DecodeError) as error:
            raise ValueError(
                "A batch spec must be text from `BatchSpec.to_string`. "
                f"Received: text={text!r:.100}"
            ) from error
        spec.structure = tf.__internal__.saved_model.decode_proto(proto)
        return spec

    def to_string(self):
        """Serializes the spec to a string, for `from_string`."""
        proto = tf.__internal__.saved_model.encode_structure(self.structure)
        return base64.b64encode(proto.SerializeToString()).decode()

    def covers(self, batch):
        """Whether a batch matches this spec."""
        signature = _signature(batch)
        if signature in self._covered:
            return True
        is_covered = self.union(batch) is self
        if is_covered and signature is not None:
            self._covered.add(signature)
        return is_covered

    def union(self, batch):
        """Returns a spec that covers both this kind of batches and `batch`.

        Args:
            batch: nest of tensors and `None`.

        Returns:
            `self` if it covers `batch`. Otherwise a new `BatchSpec`, in which
            the dimensions that differ are open; or, if the two have nothing in
            common, one for `batch` alone.
        """
        other = BatchSpec(batch)
        try:
            tf.nest.assert_same_structure(self.structure, other.structure)
        except (TypeError, ValueError):
            return other
        leaves = []
        changed = False
        pairs = zip(
            tf.nest.flatten(self.structure), tf.nest.flatten(other.structure)
        )
        for mine, theirs in pairs:
            if mine is None or theirs is None:
                if mine is not theirs:
                    return other
                leaves.append(None)
                continue
            common = mine.most_specific_common_supertype([theirs])
            if common is None or common.shape.rank is None:
                return other
            changed = changed or common != mine
            leaves.append(common)
        if not changed:
            return self
        other.structure = tf.nest.pack_sequence_as(self.structure, leaves)
        return other

    def flatten(self, batch):
        """Returns the dense tensors of a matching batch, as a list."""
        return structures.flatten(batch)

    def pack(self, tensors):
        """Packs dense tensors into a batch.

        Args:
            tensors: iterator, from which as many tensors are taken as a batch
                has.

        Returns:
            Nest like the batches of this kind.
        """
        return structures.pack(self.structure, tensors)

    def tensor_specs(self):
        """Returns a list of `tf.TensorSpec`s, one per tensor of `flatten`."""
        return self.flatten(self.structure)

    def symbols(self):
        """Returns a nest like a batch, of `keras.KerasTensor`."""
        return tf.nest.map_structure(
            lambda leaf: None
            if leaf is None
            else keras.KerasTensor(leaf.shape.as_list(), leaf.dtype.name),
            self.structure,
        )


def _signature(nest):
    """Returns what is alike for batches of one kind and size, to be hashed.

    `None` where it is not known: for composite tensors.
    """
    if nest is None:
        return ()
    if isinstance(nest, tf.Tensor):
        return nest.dtype, nest.shape
    if type(nest) is dict:
        parts = zip(nest, map(_signature, nest.values()))
    elif type(nest) in (tuple, list):
        parts = enumerate(map(_signature, nest))
    else:
        return None
    parts = tuple(parts)
    if any(part is None for _, part in parts):
        return None
    return type(nest), parts


def _leaf_spec(leaf):
    if leaf is None:
        return None
    spec = tf.type_spec_from_value(leaf)
    if isinstance(spec, tf.TensorSpec) and spec.shape.rank:
        return tf.TensorSpec([None, *spec.shape[1:]], spec.dtype)
    if isinstance(spec, tf.RaggedTensorSpec):
        return tf.RaggedTensorSpec(
            [None, *spec.shape[1:]],
            spec.dtype,
            spec.ragged_rank,
            spec.row_splits_dtype,
        )
    return spec
