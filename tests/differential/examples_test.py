"""Networks in the style of Keras' tutorials, without configurations.

Written anew after what the tutorials do: layers that hold other layers, take
arguments without telling them in `get_config`, and add losses.
"""

import dataclasses

import keras
import numpy as np
import pytest

import fr_keras
from tests.differential.harness import Case, check, fit_and_call
from tests.differential.selection import parameters

layers = keras.layers
ops = keras.ops

EXAMPLES = 10
LENGTH, VOCABULARY, WIDTH = 6, 11, 8


class Embedded(layers.Layer):
    """Tokens and their positions."""

    def __init__(self, length, vocabulary, width):
        super().__init__()
        self.tokens = layers.Embedding(vocabulary, width)
        self.positions = layers.Embedding(length, width)

    def call(self, x):
        return self.tokens(x) + self.positions(ops.arange(x.shape[-1]))


class TransformerBlock(layers.Layer):
    """Attention and two dense layers, each with a skip."""

    def __init__(self, width, num_heads, is_causal=False, rate=0.1):
        super().__init__()
        self.attention = layers.MultiHeadAttention(num_heads, width)
        self.feed_forward = keras.Sequential(
            [layers.Dense(2 * width, activation="relu"), layers.Dense(width)]
        )
        self.norms = [layers.LayerNormalization() for _ in range(2)]
        self.dropouts = [layers.Dropout(rate) for _ in range(2)]
        self.is_causal = is_causal

    def call(self, x, training=None):
        made = self.attention(x, x, use_causal_mask=self.is_causal)
        x = self.norms[0](x + self.dropouts[0](made, training=training))
        made = self.dropouts[1](self.feed_forward(x), training=training)
        return self.norms[1](x + made)


def text_transformer():
    inputs = keras.Input((LENGTH,), dtype="int32")
    x = Embedded(LENGTH, VOCABULARY, WIDTH)(inputs)
    for _ in range(2):
        x = TransformerBlock(WIDTH, 2)(x)
    x = layers.GlobalAveragePooling1D()(x)
    x = layers.Dropout(0.1)(x)
    x = layers.Dense(6, activation="relu")(x)
    return keras.Model(inputs, layers.Dense(2, activation="softmax")(x))


def mini_gpt():
    """Gives the features beside the logits; they have no loss."""
    inputs = keras.Input((LENGTH,), dtype="int32")
    x = Embedded(LENGTH, VOCABULARY, WIDTH)(inputs)
    for _ in range(3):
        x = TransformerBlock(WIDTH, 2, is_causal=True)(x)
    return keras.Model(inputs, [layers.Dense(VOCABULARY)(x), x])


class DepthToSpace(layers.Layer):
    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def call(self, x):
        _, height, width, depth = x.shape
        r = self.factor
        x = ops.reshape(x, (-1, height, width, r, r, depth // r**2))
        x = ops.transpose(x, (0, 1, 3, 2, 4, 5))
        return ops.reshape(x, (-1, height * r, width * r, depth // r**2))


def super_resolution():
    inputs = keras.Input((4, 4, 1))
    x = inputs
    for filters in (8, 8, 6):
        x = layers.Conv2D(filters, 3, padding="same", activation="relu")(x)
    x = layers.Conv2D(4, 3, padding="same")(x)
    return keras.Model(inputs, DepthToSpace(2)(x))


class CTC(layers.Layer):
    """Adds the loss, and gives what it is given."""

    def call(self, labels, predicted):
        batch = ops.shape(predicted)[0]
        self.add_loss(ops.mean(ops.ctc_loss(
            labels, ops.log(predicted + 1e-7),
            ops.full((batch,), labels.shape[1], "int32"),
            ops.full((batch,), predicted.shape[1], "int32"), mask_index=0,
        )))
        return predicted


def captcha():
    images = keras.Input((8, 6, 1), name="image")
    labels = keras.Input((2,), dtype="int32", name="label")
    x = layers.Conv2D(4, 3, padding="same", activation="relu")(images)
    x = layers.MaxPooling2D((1, 2))(x)
    x = layers.Reshape((8, 12))(x)
    x = layers.Dense(6, activation="relu")(x)
    x = layers.Dropout(0.2)(x)
    for units in (5, 4):
        x = layers.Bidirectional(
            layers.LSTM(units, return_sequences=True, dropout=0.2)
        )(x)
    x = layers.Dense(5, activation="softmax")(x)
    return keras.Model([images, labels], CTC()(labels, x))


class Patches(layers.Layer):
    """Cuts an image into patches, embeds them, and adds their places."""

    def __init__(self, size, width):
        super().__init__()
        self.size = size
        self.projection = layers.Dense(width)

    def build(self, shape):
        self.num_patches = (shape[1] // self.size) * (shape[2] // self.size)
        self.places = self.add_weight(
            shape=(self.num_patches, self.projection.units), name="places"
        )

    def call(self, images):
        patches = ops.image.extract_patches(images, self.size)
        patches = ops.reshape(
            patches, (-1, self.num_patches, patches.shape[-1])
        )
        return self.projection(patches) + self.places


def vit():
    inputs = keras.Input((8, 8, 3))
    x = layers.RandomFlip("horizontal", seed=3)(layers.Rescaling(0.5)(inputs))
    x = Patches(4, WIDTH)(x)
    for _ in range(2):
        normed = layers.LayerNormalization()(x)
        attended = layers.MultiHeadAttention(2, WIDTH, dropout=0.1)(
            normed, normed
        )
        x = layers.Add()([attended, x])
        made = layers.LayerNormalization()(x)
        made = layers.Dense(WIDTH, activation=keras.activations.gelu)(made)
        x = layers.Add()([layers.Dropout(0.1)(made), x])
    x = layers.Flatten()(layers.LayerNormalization()(x))
    return keras.Model(inputs, layers.Dense(3)(layers.Dropout(0.5)(x)))


class Mixture(layers.Layer):
    """Sends every token to one expert; even use of experts is rewarded."""

    def __init__(self, num_experts, width):
        super().__init__()
        self.num_experts = num_experts
        self.route = layers.Dense(num_experts)
        self.experts = [
            keras.Sequential([layers.Dense(width, activation="relu")])
            for _ in range(num_experts)
        ]

    def call(self, x, training=None):
        logits = self.route(x)
        if training:
            noise = keras.random.uniform(
                ops.shape(logits), 0.9, 1.1, dtype=logits.dtype, seed=5
            )
            logits = logits * noise
        gates = ops.softmax(logits)
        chosen = ops.one_hot(
            ops.argmax(gates, -1), self.num_experts, dtype=gates.dtype
        )
        self.add_loss(0.1 * self.num_experts * ops.sum(
            ops.mean(chosen, (0, 1)) * ops.mean(gates, (0, 1))
        ))
        made = ops.stack([expert(x) for expert in self.experts], axis=-2)
        return ops.sum((gates * chosen)[..., None] * made, axis=-2)


def mixture_of_experts():
    inputs = keras.Input((LENGTH,), dtype="int32")
    x = Embedded(LENGTH, VOCABULARY, WIDTH)(inputs)
    for _ in range(2):
        x = layers.LayerNormalization()(x + Mixture(3, WIDTH)(x))
        x = TransformerBlock(WIDTH, 2)(x)
    x = layers.GlobalAveragePooling1D()(x)
    return keras.Model(inputs, layers.Dense(2, activation="softmax")(x))


def rng():
    return np.random.default_rng(0)


def tokens(high=VOCABULARY, length=LENGTH, low=0):
    return rng().integers(low, high, (EXAMPLES, length)).astype("int32")


def floats(*shape):
    return rng().normal(size=(EXAMPLES, *shape))


def compiled_with(loss, **more):
    return lambda: {
        "optimizer": keras.optimizers.Adam(0.01), "loss": loss, **more
    }


CROSS_ENTROPY = "sparse_categorical_crossentropy"


def from_logits():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


CASES = {
    "text transformer": Case(
        text_transformer,
        fit=lambda: {"x": tokens(), "y": tokens(2)[:, 0]},
        compile=compiled_with(CROSS_ENTROPY),
    ),
    "mini-GPT": Case(
        mini_gpt,
        fit=lambda: {"x": tokens(), "y": tokens()},
        compile=lambda: compiled_with([from_logits(), None])(),
        run=fit_and_call,
    ),
    "super-resolution": Case(
        super_resolution,
        fit=lambda: {"x": floats(4, 4, 1), "y": floats(8, 8, 1)},
        compile=compiled_with("mse"),
    ),
    "captcha": Case(
        captcha,
        fit=lambda: {
            "x": {"image": floats(8, 6, 1), "label": tokens(5, 2, low=1)}
        },
        compile=compiled_with(None),
        run=fit_and_call,
        floatx="float32",  # That of CTC.
    ),
    "vision transformer": Case(
        vit,
        fit=lambda: {"x": floats(8, 8, 3), "y": tokens(3)[:, 0]},
        compile=lambda: compiled_with(from_logits())(),
    ),
    "mixture of experts": Case(
        mixture_of_experts,
        fit=lambda: {"x": tokens(), "y": tokens(2)[:, 0]},
        compile=compiled_with(CROSS_ENTROPY),
    ),
}


@pytest.mark.parametrize(
    "name, num_modules", parameters(CASES, {"mini-GPT", "captcha"})
)
def test_is_trained_as_by_keras(name, num_modules):
    check(dataclasses.replace(CASES[name], num_modules=num_modules))


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_features_replay_trains(name):
    case = CASES[name]
    keras.utils.set_random_seed(0)
    model = fr_keras.FeaturesReplay(case.make(), 4)
    model.compile(**case.compile())
    before = [
        [v.numpy() for v in m.trainable_variables] for m in model.modules
    ]
    history = model.fit(**case.fit(), batch_size=2, epochs=4, verbose=0)
    losses = history.history["loss"]
    assert losses[-1] < losses[0]
    for module, values in zip(model.modules, before):
        assert any(
            (v.numpy() != value).any()
            for v, value in zip(module.trainable_variables, values)
        )


def test_number_of_cases(tell):
    tell(f"{len(CASES)} networks in the style of Keras' tutorials")
