"""A warning for modules that are trained from outside."""

import keras
import tensorflow as tf

from fr_keras.engine import private
from fr_keras.engine.user_warnings import warn


def announcing(model, outputs):
    """Returns the same outputs, which warn when they are differentiated.

    Training modules by calling the model, as a part of another model or under
    a `tf.GradientTape`, is not the training method of the model.

    Args:
        model: `fr_keras.algorithms.base.Algorithm`.
        outputs: nest of tensors, its outputs.

    Returns:
        Nest of tensors.
    """

    def announce(gradient):
        if not model.has_announced:
            model.has_announced = True
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
        return tf.identity(x), announce

    def wrap(tensor):
        if not isinstance(tensor, tf.Tensor) or not tensor.dtype.is_floating:
            return tensor
        wrapped = identity(tensor)
        mask = private.mask_of(tensor)
        if mask is not None:
            private.set_mask(wrapped, mask)
        return wrapped

    return keras.tree.map_structure(wrap, outputs)
