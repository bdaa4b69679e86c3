"""Nests of tensors as flat lists of the dense tensors that they consist of."""

import tensorflow as tf


def flatten(nest):
    """The dense tensors of a nest; `None` is left out.

    Args:
        nest: nest of tensors, composite ones (ragged, sparse, slices)
            included, or of their `tf.TypeSpec`s, and of `None`.

    Returns:
        List of dense tensors or `tf.TensorSpec`s.
    """
    leaves = tf.nest.flatten(nest, expand_composites=True)
    return [leaf for leaf in leaves if leaf is not None]


def pack(structure, tensors):
    """A nest like another, of other tensors.

    Args:
        structure: nest, as for `flatten`.
        tensors: iterable of dense tensors, at least as many as are needed; of
            an iterator, no more are taken.

    Returns:
        Nest like `structure`, `None` where that has it.
    """
    tensors = iter(tensors)
    leaves = tf.nest.flatten(structure, expand_composites=True)
    return tf.nest.pack_sequence_as(
        structure,
        [None if leaf is None else next(tensors) for leaf in leaves],
        expand_composites=True,
    )


def specs(nest):
    """What the tensors of a nest look like.

    Args:
        nest: nest of tensors and `None`.

    Returns:
        Nest of `tf.TypeSpec`s and `None`.
    """
    return tf.nest.map_structure(
        lambda leaf: None if leaf is None else tf.type_spec_from_value(leaf),
        nest,
    )
