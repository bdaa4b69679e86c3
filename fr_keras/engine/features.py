"""The data that crosses module boundaries: features and error gradients."""

import typing

import tensorflow as tf


class Features(typing.NamedTuple):
    """Tensors that cross a boundary between modules, as flat lists.

    Attributes:
        tensors: list of tensors.
        masks: list of the Keras masks of these tensors, `None` for those
            without one.
    """

    tensors: list
    masks: list


class ErrorGradient(typing.NamedTuple):
    """The gradient of the loss with respect to some features.

    Attributes:
        tensors: list of tensors, `None` where no trained variable needs it.
        scale: scalar tensor, the factor that multiplied the loss, or `None`.
    """

    tensors: list
    scale: tf.Tensor | None
