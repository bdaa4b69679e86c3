"""Casts at the boundaries of modules, so that fewer bytes cross links."""

import keras
import tensorflow as tf

from fr_keras.engine.tied import is_weight

# Not float16, in whose range error gradients vanish without loss scaling.
DTYPES = ("bfloat16",)


class NoCasts:
    """What crosses links in its own dtype; has the methods of `LinkCasts`."""

    def arrived(self, tensors, numbers):
        del numbers
        return tensors

    leaving = error_arrived = error_leaving = arrived


class LinkCasts:
    """Casts of the features and error gradients that cross links.

    Weights that other modules share cross as they are, and so do data that pass
    through the first module.

    Args:
        module: `fr_keras.engine.wired_submodel.WiredSubmodel`, built.
        dtype: str, in which they cross.
        inputs: list with, for each input tensor, the dtype that layers expect
            if it arrives in another one, otherwise `None`.
        outputs: nest of `keras.KerasTensor` or tensors, the output.
        is_last: bool, whether the module is the last.

    Attributes:
        outputs: list like `inputs`, for the outputs.
    """

    def __init__(self, module, dtype, inputs, outputs, is_last):
        self._device = module.device
        self._dtype = dtype
        self._inputs = inputs
        # Its own symbolic outputs know which of them are weights.
        outputs = (
            getattr(module.submodel, "outputs", None)
            or keras.tree.flatten(outputs)
        )
        self.outputs = module.wiring.output(inputs, [
            None if is_last else _wider(outputs[i], dtype)
            for i in module.wiring.computed
        ])

    def arrived(self, tensors, numbers):
        """Casts features for the layers.

        Args:
            tensors: list of tensors, some of the inputs.
            numbers: list of ints, which of them.

        Returns:
            List like `tensors`.
        """
        return self._cast(tensors, [self._inputs[j] for j in numbers])

    def leaving(self, tensors, numbers):
        """Casts features for the link; like `arrived`, for outputs."""
        return self._for_link(tensors, [self.outputs[i] for i in numbers])

    def error_arrived(self, tensors, numbers):
        """Casts error gradients of outputs for the layers, as `arrived`."""
        return self._cast(tensors, [self.outputs[i] for i in numbers])

    def error_leaving(self, tensors, numbers):
        """Casts error gradients of inputs for the link, as `arrived`."""
        return self._for_link(tensors, [self._inputs[j] for j in numbers])

    def _for_link(self, tensors, expected):
        return self._cast(
            tensors, [None if e is None else self._dtype for e in expected]
        )

    def _cast(self, tensors, dtypes):
        with tf.device(self._device):
            return [
                tensor if dtype is None or tensor is None
                else _cast(tensor, dtype)
                for tensor, dtype in zip(tensors, dtypes)
            ]


def _wider(tensor, dtype):
    """The dtype of a feature if it is to cross in a narrower one."""
    own = tf.as_dtype(tensor.dtype)
    is_wider = own.is_floating and own.size > tf.as_dtype(dtype).size
    return own.name if is_wider and not is_weight(tensor) else None


def _cast(tensor, dtype):
    if isinstance(tensor, tf.TensorSpec):
        return tf.TensorSpec(tensor.shape, dtype)
    return tf.cast(tensor, dtype)
