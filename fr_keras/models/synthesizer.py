"""Small networks that predict error gradients, for synthetic gradients."""

from collections.abc import Sequence
from typing import Any

import keras

from fr_keras.layers import FusedBatchNormalization

_CONVOLUTIONS = {
    3: keras.layers.Conv1D, 4: keras.layers.Conv2D, 5: keras.layers.Conv3D
}


def synthesizer(
    shape: Sequence[int | None], width: int | None = None, dtype: Any = None,
    name: str = "synthesizer",
) -> keras.Model:
    """Creates a network that predicts error gradients from features.

    For images it has two 3×3 convolutions with batch normalization and ReLU,
    and a third one initialized to zero, so that nothing is predicted before
    anything is learned. For vectors it has dense layers instead, and for
    sequences and volumes the convolutions of their rank.

    Args:
        shape: tuple, the shape of the features with the batch dimension,
            `None` where a dimension is open.
        width: int, channels (or units) of the two hidden layers, or `None`
            for as many as the features have.
        dtype: Keras dtype policy of the layers, or `None` for the default.
        name: str.

    Returns:
        `keras.Sequential`, from features to predictions of the same shape.

    Raises:
        ValueError: if there is no synthesizer for features of that shape.

    Reference: [Decoupled Neural Interfaces using Synthetic Gradients](
    https://arxiv.org/abs/1608.05343) (Jaderberg et al., 2017).
    """
    rank = len(shape)
    if width is not None and (not isinstance(width, int) or width < 1):
        raise ValueError(
            f"The width of a synthesizer must be at least 1. Received: {width=}"
        )
    channel_axis = -1
    if rank > 2 and keras.config.image_data_format() == "channels_first":
        channel_axis = 1
    if not 2 <= rank <= 5 or shape[channel_axis] is None:
        raise ValueError(
            "The features between modules must be vectors, sequences, images "
            "or volumes with a known number of channels, so that their error "
            "gradients can be synthesized; split the model elsewhere. "
            f"Received: features of shape {tuple(shape)}"
        )
    channels = shape[channel_axis]

    def layer(width, name, **options):
        if rank == 2:
            return keras.layers.Dense(width, dtype=dtype, name=name, **options)
        return _CONVOLUTIONS[rank](
            width, 3, padding="same", dtype=dtype, name=name, **options
        )

    network = keras.Sequential([keras.Input(shape[1:])], name=name)
    for i in (1, 2):
        network.add(layer(width or channels, f"hidden_{i}", use_bias=False))
        network.add(
            FusedBatchNormalization(
                axis=channel_axis, dtype=dtype, name=f"norm_{i}"
            )
        )
        network.add(keras.layers.ReLU(dtype=dtype, name=f"relu_{i}"))
    network.add(
        layer(channels, "prediction", kernel_initializer="zeros")
    )
    return network
