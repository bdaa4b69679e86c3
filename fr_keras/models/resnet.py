"""The residual networks of the Features Replay paper, for small images."""

import keras

from fr_keras.layers import FusedBatchNormalization

# Depth: (kind of block, blocks in each stage, channels in each stage).
_ARCHITECTURES = {
    **{
        6 * n + 2: ("basic", (n, n, n), (16, 32, 64)) for n in (3, 5, 7, 9, 18)
    },
    164: ("preactivation", (18, 18, 18), (16, 32, 64)),
    101: ("bottleneck", (3, 4, 23, 3), (64, 128, 256, 512)),
    152: ("bottleneck", (3, 8, 36, 3), (64, 128, 256, 512)),
}

RESNET_DEPTHS = tuple(sorted(_ARCHITECTURES))


def resnet(
    depth: int, num_classes: int, input_shape: tuple[int, int, int] = (32, 32,
    3), dropout: float = 0.0,
) -> keras.Model:
    """Creates a residual network for small images.

    Depths 20, 32, 44, 56 and 110 are the CIFAR networks of He et al. (basic
    blocks, 16 to 64 channels, shortcuts without weights); 164 has
    pre-activation bottleneck blocks (64 to 256 channels); 101 and 152 have
    the bottleneck blocks of the ImageNet networks (256 to 2048 channels)
    after a 3×3 convolution.

    Args:
        depth: int, the number of layers with weights, from `RESNET_DEPTHS`.
        num_classes: int, the number of classes.
        input_shape: tuple `(height, width, channels)`; height and width may
            be `None`.
        dropout: float, from 0 to below 1, the dropout rate before the last
            convolution of each block, as in Wide Residual Networks.

    Returns:
        Functional `keras.Model` from images of shape `(batch, *input_shape)`
        to logits of shape `(batch, num_classes)`.

    Raises:
        ValueError: for any other depth, a number of classes below 1, or a rate
            out of range.

    Example:

    ```python
    model = fr_keras.models.resnet(20, num_classes=10)
    ```

    References:
        [Deep Residual Learning for Image Recognition](
        https://arxiv.org/abs/1512.03385), section 4.2;
        [Identity Mappings in Deep Residual Networks](
        https://arxiv.org/abs/1603.05027), for depth 164;
        [Wide Residual Networks](https://arxiv.org/abs/1605.07146), for
        dropout.
    """
    if depth not in _ARCHITECTURES:
        raise ValueError(
            f"`depth` must be one of {RESNET_DEPTHS}. Received: {depth=}"
        )
    if num_classes < 1:
        raise ValueError(
            f"`num_classes` must be at least 1. Received: {num_classes=}"
        )
    if not 0 <= dropout < 1:
        raise ValueError(
            f"`dropout` must be at least 0 and below 1. Received: {dropout=}"
        )
    kind, blocks, channels = _ARCHITECTURES[depth]
    block = {
        "basic": _basic_block,
        "bottleneck": _bottleneck_block,
        "preactivation": _preactivation_block,
    }[kind]
    preactivation = kind == "preactivation"

    inputs = keras.Input(input_shape)
    x = _convolution(inputs, channels[0], 3, name="stem_conv")
    if not preactivation:
        x = _normalization_and_relu(x, "stem")
    for stage in range(len(blocks)):
        for i in range(blocks[stage]):
            strides = 2 if stage > 0 and i == 0 else 1
            x = block(
                x, channels[stage], strides, dropout,
                f"stage{stage + 1}_block{i + 1}",
            )
    if preactivation:
        x = _normalization_and_relu(x, "head")
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    outputs = keras.layers.Dense(
        num_classes, kernel_initializer="he_normal", name="logits"
    )(x)
    return keras.Model(inputs, outputs, name=f"resnet{depth}")


def _convolution(x, channels, size, strides=1, name=None):
    padding = "same"
    if strides > 1 and size > 1:
        # As in the authors' networks: centered on the pixels that the shortcut
        # takes, whereas "same" would pad images of even size on one side only.
        padding = "valid"
        x = keras.layers.ZeroPadding2D(size // 2, name=f"{name}_pad")(x)
    return keras.layers.Conv2D(
        channels,
        size,
        strides,
        padding=padding,
        use_bias=False,
        kernel_initializer=keras.initializers.VarianceScaling(
            2.0, "fan_out", "untruncated_normal"
        ),
        name=name,
    )(x)


def _normalization(x, name):
    return FusedBatchNormalization(
        momentum=0.9, epsilon=1e-5 * 1.01, name=name
    )(x)


def _normalization_and_relu(x, name):
    x = _normalization(x, f"{name}_norm")
    return keras.layers.ReLU(name=f"{name}_relu")(x)


def _dropout(x, rate, name):
    return keras.layers.Dropout(rate, name=f"{name}_dropout")(x) if rate else x


def _basic_block(x, channels, strides, dropout, name):
    """Two 3×3 convolutions; a shortcut that widens is zero-padded."""
    shortcut = x
    if strides > 1:
        shortcut = keras.layers.AveragePooling2D(
            1, strides, name=f"{name}_subsample"
        )(shortcut)
    added = channels - x.shape[-1]
    if added:
        shortcut = keras.ops.pad(
            shortcut, ((0, 0), (0, 0), (0, 0), (0, added))
        )
    x = _convolution(x, channels, 3, strides, name=f"{name}_conv1")
    x = _normalization_and_relu(x, f"{name}_1")
    x = _dropout(x, dropout, name)
    x = _convolution(x, channels, 3, name=f"{name}_conv2")
    x = _normalization(x, f"{name}_2_norm")
    x = keras.layers.Add(name=f"{name}_add")([shortcut, x])
    return keras.layers.ReLU(name=f"{name}_relu")(x)


def _bottleneck_block(x, channels, strides, dropout, name):
    """1×1, 3×3 and 1×1 convolutions, the last to 4 times the channels."""
    shortcut = x
    if strides > 1 or x.shape[-1] != 4 * channels:
        shortcut = _convolution(
            x, 4 * channels, 1, strides, name=f"{name}_shortcut_conv"
        )
        shortcut = _normalization(shortcut, f"{name}_shortcut_norm")
    x = _convolution(x, channels, 1, name=f"{name}_conv1")
    x = _normalization_and_relu(x, f"{name}_1")
    x = _convolution(x, channels, 3, strides, name=f"{name}_conv2")
    x = _normalization_and_relu(x, f"{name}_2")
    x = _dropout(x, dropout, name)
    x = _convolution(x, 4 * channels, 1, name=f"{name}_conv3")
    x = _normalization(x, f"{name}_3_norm")
    x = keras.layers.Add(name=f"{name}_add")([shortcut, x])
    return keras.layers.ReLU(name=f"{name}_relu")(x)


def _preactivation_block(x, channels, strides, dropout, name):
    """Bottleneck with normalization and ReLU before each convolution."""
    shortcut = x
    x = _normalization_and_relu(x, f"{name}_1")
    if strides > 1 or shortcut.shape[-1] != 4 * channels:
        shortcut = _convolution(
            x, 4 * channels, 1, strides, name=f"{name}_shortcut_conv"
        )
    x = _convolution(x, channels, 1, name=f"{name}_conv1")
    x = _normalization_and_relu(x, f"{name}_2")
    x = _convolution(x, channels, 3, strides, name=f"{name}_conv2")
    x = _normalization_and_relu(x, f"{name}_3")
    x = _dropout(x, dropout, name)
    x = _convolution(x, 4 * channels, 1, name=f"{name}_conv3")
    return keras.layers.Add(name=f"{name}_add")([shortcut, x])
