"""What crosses a boundary between modules: features and error gradients."""

import typing

import tensorflow as tf


class Features(typing.NamedTuple):
    """What crosses a boundary between modules, as flat lists.

    Attributes:
        tensors: list of tensors.
        masks: list of Keras' masks of these tensors, `None` where there is
            none.
    """

    tensors: list
    masks: list


class ErrorGradient(typing.NamedTuple):
    """The gradient of the loss with respect to some features.

    Attributes:
        tensors: list of tensors, `None` where nothing that is trained depends
            on it.
        scale: scalar tensor, by what the loss was multiplied, or `None`.
    """

    tensors: list
    scale: tf.Tensor | None
