"""Residual networks against the papers' figures and plain TensorFlow."""

import collections
import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

import fr_keras
from fr_keras.layers import FusedBatchNormalization
from fr_keras.models import RESNET_DEPTHS, resnet

# Of each stage: blocks, height and width, channels behind a block.
STAGES = {
    **{
        6 * n + 2: [(n, 32, 16), (n, 16, 32), (n, 8, 64)]
        for n in (3, 5, 7, 9, 18)
    },
    101: [(3, 32, 256), (4, 16, 512), (23, 8, 1024), (3, 4, 2048)],
    152: [(3, 32, 256), (8, 16, 512), (36, 8, 1024), (3, 4, 2048)],
    164: [(18, 32, 64), (18, 16, 128), (18, 8, 256)],
}


@pytest.fixture(scope="module")
def cached_resnet():
    """The deep ones take seconds to build; no test may change them."""
    return functools.cache(lambda depth: resnet(depth, 10))


def layers_of(model, cls):
    return [layer for layer in model.layers if isinstance(layer, cls)]


def num_trainable(model):
    return sum(int(np.prod(v.shape)) for v in model.trainable_variables)


# Sizes.


@pytest.mark.parametrize(
    "depth, millions",
    [(20, "0.27"), (32, "0.46"), (44, "0.66"), (56, "0.85"), (110, "1.7")],
)
def test_weights_of_basic_networks(cached_resnet, depth, millions):
    """He et al., table 6; two convolutions in each of n blocks per stage."""
    n = (depth - 2) // 6
    convolutions = 9 * (
        3 * 16 + 2 * n * 16 * 16
        + 16 * 32 + (2 * n - 1) * 32 * 32
        + 32 * 64 + (2 * n - 1) * 64 * 64
    )
    normalizations = 2 * (16 + 2 * n * (16 + 32 + 64))
    expected = convolutions + normalizations + (64 + 1) * 10
    assert num_trainable(cached_resnet(depth)) == expected
    decimals = len(millions.partition(".")[2])
    assert f"{expected / 1e6:.{decimals}f}" == millions


def test_weights_of_preactivation_network(cached_resnet):
    """1.7 million in Huang et al. (DenseNet), table 2."""
    expected = 9 * 3 * 16
    for inputs, width in [(16, 16), (64, 32), (128, 64)]:
        convolutions = width * width * 9 + width * 4 * width
        normalizations = 2 * (width + width)
        expected += 18 * (convolutions + normalizations)
        # In front: the first block's inputs, and its shortcut's convolution.
        expected += 2 * inputs + inputs * width + inputs * 4 * width
        expected += 17 * (2 * 4 * width + 4 * width * width)
    expected += 2 * 256 + (256 + 1) * 10
    assert num_trainable(cached_resnet(164)) == expected
    assert f"{expected / 1e6:.1f}" == "1.7"


@pytest.mark.parametrize("depth, imagenet", [(101, 44549160), (152, 60192808)])
def test_weights_of_bottleneck_networks(cached_resnet, depth, imagenet):
    """Torchvision's count, with a 3×3 stem and 10 classes for 7×7 and 1000."""
    expected = imagenet + (9 - 49) * 3 * 64 + (2048 + 1) * (10 - 1000)
    assert num_trainable(cached_resnet(depth)) == expected


@pytest.mark.parametrize("depth", RESNET_DEPTHS)
def test_depth_counts_layers_with_weights(cached_resnet, depth):
    """Convolutions and dense layers on the longest path."""
    model = cached_resnet(depth)
    longest = collections.Counter()
    for operation in model.operations:
        if not isinstance(operation, keras.layers.InputLayer):
            longest[id(operation.output)] = isinstance(
                operation, (keras.layers.Conv2D, keras.layers.Dense)
            ) + max(longest[id(x)] for x in tf.nest.flatten(operation.input))
    assert longest[id(model.output)] == depth


@pytest.mark.parametrize("depth", RESNET_DEPTHS)
def test_stages(cached_resnet, depth):
    model = cached_resnet(depth)
    found = collections.Counter(
        layer.output.shape for layer in layers_of(model, keras.layers.Add)
    )
    assert found == {
        (None, size, size, channels): blocks
        for blocks, size, channels in STAGES[depth]
    }


@pytest.mark.parametrize("depth", [101, 152, 164])
def test_bottlenecks_are_a_quarter_as_wide(cached_resnet, depth):
    stem, *convolutions = [
        layer
        for layer in layers_of(cached_resnet(depth), keras.layers.Conv2D)
        if layer.kernel_size == (3, 3)
    ]
    assert stem.filters == (16 if depth == 164 else 64)
    assert collections.Counter(layer.filters for layer in convolutions) == {
        channels // 4: blocks for blocks, _, channels in STAGES[depth]
    }


@pytest.mark.parametrize("depth", RESNET_DEPTHS)
def test_normalization(cached_resnet, depth):
    """Fused; what PyTorch calls momentum=0.1 is 0.9 for Keras."""
    layers = layers_of(cached_resnet(depth), keras.layers.BatchNormalization)
    assert {type(layer) for layer in layers} == {FusedBatchNormalization}
    assert {layer.momentum for layer in layers} == {0.9}


# Blocks.


class Plain:
    """A block's layers, computed by TensorFlow alone."""

    def __init__(self, model, block):
        self.layer = lambda name: model.get_layer(f"{block}_{name}")

    def convolution(self, x, name, strides=1):
        kernel = tf.convert_to_tensor(self.layer(name).kernel)
        border = kernel.shape[0] // 2
        border = [border, border]
        return tf.nn.conv2d(
            x, kernel, strides, [[0, 0], border, border, [0, 0]]
        )

    def normalization(self, x, name):
        # In the order of the layer's weights.
        gamma, beta, mean, variance = self.layer(name).get_weights()
        return tf.nn.batch_normalization(
            x, mean, variance, beta, gamma, variance_epsilon=1.01e-5
        )


def basic(plain, x, strides):
    y = plain.convolution(x, "conv1", strides)
    y = tf.nn.relu(plain.normalization(y, "1_norm"))
    y = plain.convolution(y, "conv2")
    y = plain.normalization(y, "2_norm")
    x = x[:, ::strides, ::strides]
    added = y.shape[-1] - x.shape[-1]
    return tf.nn.relu(y + tf.pad(x, [[0, 0], [0, 0], [0, 0], [0, added]]))


def bottleneck(plain, x, strides):
    y = plain.convolution(x, "conv1")
    y = tf.nn.relu(plain.normalization(y, "1_norm"))
    y = plain.convolution(y, "conv2", strides)
    y = tf.nn.relu(plain.normalization(y, "2_norm"))
    y = plain.convolution(y, "conv3")
    y = plain.normalization(y, "3_norm")
    if x.shape[-1] != y.shape[-1]:
        x = plain.convolution(x, "shortcut_conv", strides)
        x = plain.normalization(x, "shortcut_norm")
    return tf.nn.relu(x + y)


def preactivation(plain, x, strides):
    first = tf.nn.relu(plain.normalization(x, "1_norm"))
    y = plain.convolution(first, "conv1")
    y = tf.nn.relu(plain.normalization(y, "2_norm"))
    y = plain.convolution(y, "conv2", strides)
    y = tf.nn.relu(plain.normalization(y, "3_norm"))
    y = plain.convolution(y, "conv3")
    if x.shape[-1] != y.shape[-1]:
        x = plain.convolution(first, "shortcut_conv", strides)
    return x + y


def copy_between(model, first, last):
    """From one layer's output to another's, no weights as initialized."""
    copy = keras.models.clone_model(
        keras.Model(
            model.get_layer(first).output, model.get_layer(last).output
        )
    )
    rng = np.random.default_rng(0)
    for layer in layers_of(copy, keras.layers.BatchNormalization):
        for variable in layer.variables:
            variable.assign(rng.uniform(0.5, 1.5, variable.shape))
    return copy


@pytest.mark.parametrize(
    "depth, reference, before, block, strides",
    [
        (20, basic, "stage1_block3_relu", "stage2_block1", 2),
        (20, basic, "stage2_block1_relu", "stage2_block2", 1),
        (101, bottleneck, "stem_relu", "stage1_block1", 1),
        (101, bottleneck, "stage1_block3_relu", "stage2_block1", 2),
        (101, bottleneck, "stage2_block1_relu", "stage2_block2", 1),
        (164, preactivation, "stem_conv", "stage1_block1", 1),
        (164, preactivation, "stage1_block18_add", "stage2_block1", 2),
        (164, preactivation, "stage2_block1_add", "stage2_block2", 1),
    ],
)
def test_block(cached_resnet, depth, reference, before, block, strides):
    last = "add" if reference is preactivation else "relu"
    model = copy_between(cached_resnet(depth), before, f"{block}_{last}")
    x = np.random.default_rng(1).normal(size=(2, *model.input_shape[1:]))
    x = tf.cast(x, "float32")
    np.testing.assert_allclose(
        model(x), reference(Plain(model, block), x, strides), 1e-5, 1e-5
    )


@pytest.mark.parametrize("size", [8, 7])
def test_channels_that_a_shortcut_adds_are_zero(size):
    """Option A of He et al.; shown where the block itself adds nothing."""
    model = copy_between(
        resnet(20, 10, (size, size, 3)), "stage1_block3_relu",
        "stage2_block1_relu",
    )
    norm = model.get_layer("stage2_block1_2_norm")
    norm.gamma.assign(tf.zeros_like(norm.gamma))
    norm.beta.assign(tf.zeros_like(norm.beta))
    x = np.random.default_rng(1).uniform(size=(2, size, size, 16))
    x = x.astype("float32")

    outputs = np.array(model(x))

    assert outputs.shape == (2, 4, 4, 32)
    np.testing.assert_array_equal(outputs[..., :16], x[:, ::2, ::2])
    np.testing.assert_array_equal(outputs[..., 16:], 0.0)


def test_places_to_cut():
    model = resnet(20, 10, (8, 8, 3))
    modules = fr_keras.partition(model, 4)
    assert len(modules) == 4
    adds = [len(layers_of(module, keras.layers.Add)) for module in modules]
    assert min(adds) >= 1
    assert sum(adds) == 9


# Arguments.


@pytest.mark.parametrize(
    "depth, num_classes, input_shape",
    [
        (20, 1, (1, 1, 3)),
        (20, 100, (64, 32, 3)),
        (32, 7, (5, 10, 2)),
        (101, 10, (28, 28, 1)),
        (164, 10, (9, 7, 3)),
    ],
)
def test_shapes(depth, num_classes, input_shape):
    model = resnet(depth, num_classes, input_shape)
    assert model.input_shape == (None, *input_shape)
    assert model.output_shape == (None, num_classes)
    assert model.name == f"resnet{depth}"


def test_size_may_be_unknown():
    model = resnet(20, 10, (None, None, 3))
    for size in [(8, 8), (7, 10)]:
        fixed = resnet(20, 10, (*size, 3))
        fixed.set_weights(model.get_weights())
        x = np.random.default_rng(1).normal(size=(2, *size, 3))
        np.testing.assert_allclose(model(x), fixed(x), 1e-5, 1e-5)


def test_outputs_are_logits(cached_resnet):
    """The dense layer's alone, of the channels' means."""
    model = cached_resnet(20)
    features = keras.Model(
        model.input, model.get_layer("stage3_block3_relu").output
    )
    x = np.random.default_rng(1).normal(size=(2, 32, 32, 3))
    kernel, bias = model.layers[-1].get_weights()
    np.testing.assert_allclose(
        model(x), np.mean(features(x), (1, 2)) @ kernel + bias, 1e-5, 1e-5
    )


@pytest.mark.parametrize("depth", [-20, 0, 18, 21, 50, 1001, "20", None])
def test_unknown_depth(depth):
    with pytest.raises(ValueError, match="20, 32, .*, 164") as error:
        resnet(depth, 10)
    assert str(error.value).endswith(f"Received: {depth=}")


@pytest.mark.parametrize("num_classes", [0, -1])
def test_no_classes(num_classes):
    with pytest.raises(ValueError, match="at least 1") as error:
        resnet(20, num_classes)
    assert str(error.value).endswith(f"Received: {num_classes=}")


@pytest.mark.parametrize("depth, blocks", [(20, 9), (101, 33), (164, 54)])
def test_dropout_is_in_every_block(depth, blocks):
    plain = fr_keras.models.resnet(depth, 10)
    model = fr_keras.models.resnet(depth, 10, dropout=0.25)
    layers = [x for x in model.layers if isinstance(x, keras.layers.Dropout)]
    assert len(layers) == blocks and {x.rate for x in layers} == {0.25}
    assert [w.shape for w in model.weights] == [w.shape for w in plain.weights]
    for layer in layers:  # Before a convolution, which is the block's last.
        (after,) = [
            node.operation for node in layer._outbound_nodes
        ]
        assert isinstance(after, keras.layers.Conv2D)
        assert after.name.endswith("conv2" if depth == 20 else "conv3")


@pytest.mark.parametrize("rate", [-0.1, 1.0, float("nan")])
def test_nonsensical_dropout(rate):
    with pytest.raises(ValueError, match="`dropout` must.*Received: dropout="):
        fr_keras.models.resnet(20, 10, dropout=rate)
