"""Calls of submodels: quietly, and only for the shapes of their outputs."""

import contextlib
import re
import warnings

import keras
import tensorflow as tf

from fr_keras.engine import private
from fr_keras.engine.tied import flat_layers


def call_quietly(submodel, inputs, **kwargs):
    """Calls a submodel without Keras' warning about masks at its input.

    Keras assumes that a Functional model ignores masks, although it passes them
    to its layers.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", f"Layer '{re.escape(submodel.name)}'.*masking"
        )
        return submodel(inputs, **kwargs)


def outputs_for(submodel, inputs):
    """Determines the outputs of a submodel, leaving its state unchanged.

    Args:
        submodel: `keras.layers.Layer`, which is built if it was not.
        inputs: nest of `keras.KerasTensor`, or of tensors.

    Returns:
        Nest of `keras.KerasTensor`, or of tensors, with masks if there are any.
    """
    is_symbolic = all(
        isinstance(tensor, keras.KerasTensor)
        for tensor in keras.tree.flatten(inputs)
    )
    if is_symbolic and submodel.built and not _is_of_keras(
        submodel
    ):
        # Custom layers may declare other shapes and dtypes than they
        # return, and the dtype decides whether there is a gradient.
        with contextlib.suppress(Exception):
            return _traced_outputs(submodel, inputs)
    if is_symbolic:
        return call_quietly(submodel, inputs)
    if not submodel.built:
        # Build it symbolically if possible.
        with contextlib.suppress(Exception):
            call_quietly(submodel, keras.tree.map_structure(
                lambda tensor: keras.KerasTensor(
                    tensor.shape, tensor.dtype.name
                ), inputs,
            ))
    if not submodel.built:
        return call_quietly(submodel, inputs)
    with keras.StatelessScope():
        return call_quietly(submodel, inputs)


def _is_of_keras(submodel):
    """Whether all layers are Keras' own, which return what they declare."""
    return all(
        type(layer).__module__.startswith(("keras.", "fr_keras."))
        and not isinstance(layer, keras.layers.Lambda)
        for layer in flat_layers(submodel)
    )


def _traced_outputs(submodel, inputs):
    """Determines the outputs of a submodel by tracing it.

    Args:
        submodel: `keras.layers.Layer`, built.
        inputs: nest of `keras.KerasTensor`.

    Returns:
        Nest of `keras.KerasTensor`, with masks if there are any.
    """
    flat = keras.tree.flatten(inputs)

    def call(*tensors):
        with keras.StatelessScope():
            made = call_quietly(
                submodel, keras.tree.pack_sequence_as(inputs, tensors)
            )
        return made, [
            private.mask_of(tensor)
            for tensor in keras.tree.flatten(made)
        ]

    made, masks = tf.function(call, autograph=False).get_concrete_function(*(
        tf.TensorSpec(tensor.shape, tensor.dtype) for tensor in flat
    )).structured_outputs
    outputs = keras.tree.map_structure(_symbol, made)
    for output, mask in zip(keras.tree.flatten(outputs), masks):
        if mask is not None:
            private.set_mask(output, _symbol(mask))
    return outputs


def _symbol(spec):
    return keras.KerasTensor(spec.shape, spec.dtype.name)
