"""Calls of submodels: without warnings, or only to infer their outputs."""

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
    """Determines the outputs of a submodel without changing its state.

    Args:
        submodel: `keras.layers.Layer`, which is built if necessary.
        inputs: nest of `keras.KerasTensor`, or of tensors.

    Returns:
        Nest of `keras.KerasTensor`, or of tensors, with masks if there are any.
    """
    is_symbolic = all(
        isinstance(tensor, keras.KerasTensor)
        for tensor in keras.tree.flatten(inputs)
    )
    if is_symbolic and submodel.built and not _is_builtin(submodel):
        # Custom layers may return other shapes and dtypes than they
        # declare, and the dtype decides whether there is a gradient.
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


def _is_builtin(submodel):
    """Whether all layers are Keras' own, whose declared outputs are correct."""
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
            outputs = call_quietly(
                submodel, keras.tree.pack_sequence_as(inputs, tensors)
            )
        return outputs, [
            private.mask_of(tensor)
            for tensor in keras.tree.flatten(outputs)
        ]

    specs, masks = tf.function(call, autograph=False).get_concrete_function(*(
        tf.TensorSpec(tensor.shape, tensor.dtype) for tensor in flat
    )).structured_outputs
    outputs = keras.tree.map_structure(_symbol, specs)
    for output, mask in zip(keras.tree.flatten(outputs), masks):
        if mask is not None:
            private.set_mask(output, _symbol(mask))
    return outputs


def _symbol(spec):
    return keras.KerasTensor(spec.shape, spec.dtype.name)
