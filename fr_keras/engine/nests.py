"""Nests of tensors as flat lists of their dense tensors."""

import tensorflow as tf


def flatten(nest):
    """Returns the dense tensors of a nest, leaving out `None`.

    Args:
        nest: nest of tensors, composite ones (ragged, sparse, slices)
            included, or of their `tf.TypeSpec`s, and of `None`.

    Returns:
        List of dense tensors or `tf.TensorSpec`s.
    """
    leaves = tf.nest.flatten(nest, expand_composites=True)
    return [leaf for leaf in leaves if leaf is not None]


def pack(structure, tensors):
    """Packs dense tensors into a nest like another.

    Args:
        structure: nest, as for `flatten`.
        tensors: iterable of dense tensors, at least as many as needed; from
            an iterator, no more are taken.

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
        nest: nest of tensors and `None`.

    Returns:
        Nest of `tf.TypeSpec`s and `None`.
    """
    return tf.nest.map_structure(
        lambda leaf: None if leaf is None else tf.type_spec_from_value(leaf),
        nest,
    )
