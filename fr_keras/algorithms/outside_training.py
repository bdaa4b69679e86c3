"""A warning for models that are differentiated from outside."""

import keras
import tensorflow as tf

from fr_keras.engine import private
from fr_keras.engine.user_warnings import warn


def warn_on_gradient(model, outputs):
    """Returns the same outputs, with a warning when they are differentiated.

    Training a model as part of another model or under a `tf.GradientTape` does
    not use its training method.

    Args:
        model: `fr_keras.algorithms.base.Algorithm`.
        outputs: nest of tensors, its outputs.

    Returns:
        Nest of tensors.
    """

    def warn_once(gradient):
        if not model.has_warned:
            model.has_warned = True
            warn(
                f"Model '{model.name}' is being trained from outside, as part "
                "of another model or under a tf.GradientTape. That is ordinary "
                "back-propagation: only the model's own `fit` and "
                f"`train_on_batch` use {type(model).__name__}. If you want "
                "back-propagation, use the plain Keras model, `to_keras()`."
            )
        return gradient

    @tf.custom_gradient
    def identity(x):
        return tf.identity(x), warn_once

    def wrap(tensor):
        if not isinstance(tensor, tf.Tensor) or not tensor.dtype.is_floating:
            return tensor
        wrapped = identity(tensor)
        mask = private.mask_of(tensor)
        if mask is not None:
            private.set_mask(wrapped, mask)
        return wrapped

    return keras.tree.map_structure(wrap, outputs)
