"""Nested structures of tensors, as flat lists of their dense tensors."""

import tensorflow as tf


def flatten(nest):
    """Returns the dense tensors of a nest, without `None`.

    Args:
        nest: nest of tensors, including composite ones (ragged, sparse,
            slices), or of their `tf.TypeSpec`s; leaves may be `None`.

    Returns:
        List of dense tensors or `tf.TensorSpec`s.
    """
    leaves = tf.nest.flatten(nest, expand_composites=True)
    return [leaf for leaf in leaves if leaf is not None]


def pack(structure, tensors):
    """Packs dense tensors into a given structure.

    Args:
        structure: nest, as for `flatten`.
        tensors: iterable of at least as many dense tensors as needed; no more
            are taken from an iterator.

    Returns:
        Nest like `structure`, with `None` in the same places.
    """
    tensors = iter(tensors)
    leaves = tf.nest.flatten(structure, expand_composites=True)
    return tf.nest.pack_sequence_as(
        structure,
        [None if leaf is None else next(tensors) for leaf in leaves],
        expand_composites=True,
    )


def specs(nest):
    """Returns the type specs of a nest of tensors.

    Args:
        nest: nest of tensors; leaves may be `None`.

    Returns:
        The same with `tf.TypeSpec`s in place of tensors.
    """
    return tf.nest.map_structure(
        lambda leaf: None if leaf is None else tf.type_spec_from_value(leaf),
        nest,
    )
