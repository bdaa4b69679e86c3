"""Synthesizers of error gradients."""

import keras
import numpy as np
import pytest

from fr_keras.models import synthesizer


@pytest.mark.parametrize(
    "shape, kind",
    [
        ((None, 7), keras.layers.Dense),
        ((None, None, 7), keras.layers.Conv1D),
        ((None, 5, 4, 7), keras.layers.Conv2D),
        ((None, None, None, 7), keras.layers.Conv2D),
        ((None, 3, 3, 3, 7), keras.layers.Conv3D),
    ],
)
def test_three_layers_of_which_the_last_is_zero(shape, kind):
    network = synthesizer(shape, width=9)
    assert network.output_shape == shape
    linear = [layer for layer in network.layers if isinstance(layer, kind)]
    assert [layer.kernel.shape[-1] for layer in linear] == [9, 9, 7]
    for layer in linear[:-1]:
        assert np.abs(layer.kernel).max() > 0
    x = np.random.default_rng(0).normal(size=[2, *[4] * (len(shape) - 2), 7])
    if None not in shape[1:]:
        x = np.ones([2, *shape[1:]])
    np.testing.assert_array_equal(network(x, training=True), 0 * x)


def test_as_wide_as_the_features():
    network = synthesizer((None, 6))
    assert network.layers[0].units == network.layers[-1].units == 6


def test_channels_first():
    keras.config.set_image_data_format("channels_first")
    try:
        network = synthesizer((None, 3, 8, 8), width=5)
    finally:
        keras.config.set_image_data_format("channels_last")
    assert network.output_shape == (None, 3, 8, 8)
    norm = network.layers[1]
    assert norm.gamma.shape == (5,)


@pytest.mark.parametrize(
    "shape", [(None,), (None, None), (None, 2, 2, 2, 2, 3)]
)
def test_no_synthesizer(shape):
    with pytest.raises(ValueError, match="Received: features of shape"):
        synthesizer(shape)


@pytest.mark.parametrize("width", [0, -2, 1.5])
def test_bad_width(width):
    with pytest.raises(ValueError, match=f"Received: width={width}"):
        synthesizer((None, 3), width)
