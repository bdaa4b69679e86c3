"""Rows of convolutions."""

import inspect

import keras

from tests.differential.layer_cases.calls import with_lora

layers = keras.layers


def convolution(kind, layer_class):
    rows = {
        "": (kind, lambda: layer_class(3, 2, activation="relu")),
        "strides, no bias": (
            kind,
            lambda: layer_class(2, 2, 2, padding="same", use_bias=False),
        ),
    }
    if "regularizer" in str(inspect.signature(layer_class)):
        rows["regularizers, constraints"] = (
            kind,
            lambda: layer_class(
                2, 2, bias_regularizer="l2", activity_regularizer="l2",
                bias_constraint=keras.constraints.MaxNorm(0.01),
            ),
        )
    return rows


ROWS = {
    "Conv1D": {
        **convolution("sequence", layers.Conv1D),
        "causal, dilated": (
            "sequence",
            lambda: layers.Conv1D(
                3, 2, padding="causal", dilation_rate=2,
                kernel_regularizer="l2",
            ),
        ),
        "enable_lora": ("sequence", lambda: with_lora(layers.Conv1D(3, 2))),
    },
    "Conv2D": {
        **convolution("image", layers.Conv2D),
        "groups": ("image", lambda: layers.Conv2D(6, 2, groups=3)),
        "kernel regularizer, constraint": (
            "image",
            lambda: layers.Conv2D(
                3, 2, kernel_regularizer="l2", kernel_constraint="unit_norm"
            ),
        ),
        "lora_rank": ("image", lambda: layers.Conv2D(3, 2, lora_rank=2)),
    },
    "Conv3D": convolution("volume", layers.Conv3D),
    "Conv1DTranspose": convolution("sequence", layers.Conv1DTranspose),
    "Conv2DTranspose": convolution("image", layers.Conv2DTranspose),
    "Conv3DTranspose": convolution("volume", layers.Conv3DTranspose),
    "DepthwiseConv1D": {
        "": ("sequence", lambda: layers.DepthwiseConv1D(2)),
        "options": (
            "sequence",
            lambda: layers.DepthwiseConv1D(
                2, depth_multiplier=2, depthwise_regularizer="l2"
            ),
        ),
    },
    "DepthwiseConv2D": {
        "": ("image", lambda: layers.DepthwiseConv2D(2)),
        "options": (
            "image",
            lambda: layers.DepthwiseConv2D(
                2, depth_multiplier=2, depthwise_constraint="max_norm"
            ),
        ),
    },
    "SeparableConv1D": convolution("sequence", layers.SeparableConv1D),
    "SeparableConv2D": convolution("image", layers.SeparableConv2D),
}
