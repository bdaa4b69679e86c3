"""Estimated costs of layers of all kinds, beside what is counted by hand."""

import warnings

import keras
import pytest
import tensorflow as tf

import fr_keras
from fr_keras.cutting.costs import call_cost
from fr_keras.cutting.flops import UnknownWork, multiply_adds
from fr_keras.cutting.graph import Graph

layers = keras.layers


def forward(operation, *shapes, dtype="float32"):
    """Estimated cost of one call."""
    inputs = [keras.Input(shape, dtype=dtype) for shape in shapes]
    model = keras.Model(inputs, operation(*inputs))
    return sum(call_cost(node).forward for node in Graph(model).nodes)


class Encoder(layers.Layer):
    """Attention and a feed-forward part in one layer, as in KerasHub."""

    def __init__(self, width, heads=2, **kwargs):
        super().__init__(**kwargs)
        self.width = width
        self.attention = layers.MultiHeadAttention(heads, width // heads)
        self.inner = layers.Dense(4 * width, activation="gelu")
        self.outer = layers.Dense(width)

    def build(self, shape):
        self.attention.build(shape, shape)
        self.inner.build(shape)
        self.outer.build((*shape[:-1], 4 * self.width))
        self.built = True

    def call(self, x):
        x = x + self.attention(x, x)
        return x + self.outer(self.inner(x))


class Embeddings(layers.Layer):
    """Tables of tokens and places."""

    def __init__(self, vocabulary_size, length, width, **kwargs):
        super().__init__(**kwargs)
        self.tokens = layers.Embedding(vocabulary_size, width)
        self.length, self.width = length, width

    def build(self, shape):
        self.tokens.build(shape)
        self.places = self.add_weight(shape=(self.length, self.width))
        self.built = True

    def call(self, x):
        return self.tokens(x) + self.places


def language_model(length, width=16, depth=12):
    inputs = keras.Input((length,), dtype="int32")
    x = Embeddings(50_000, 8, width, name="embeddings")(inputs)
    for i in range(depth):
        x = Encoder(width, name=f"encoder_{i}")(x)
    return keras.Model(inputs, x)


@pytest.mark.parametrize(
    "layer, shape, products, elements",
    [
        (lambda: layers.Dense(5), (7, 3), 7 * 3 * 5, 7 * 5),
        (lambda: layers.Conv2D(6, 3), (8, 8, 4), 36 * 6 * 9 * 4, 36 * 6),
        (
            lambda: layers.Conv2D(6, 3, groups=2), (8, 8, 4),
            36 * 6 * 9 * 2, 36 * 6,
        ),
        (lambda: layers.DepthwiseConv2D(3), (8, 8, 4), 36 * 4 * 9, 36 * 4),
        # From every place of the input to nine of the output.
        (
            lambda: layers.Conv2DTranspose(5, 3, 2, "same"), (8, 8, 4),
            64 * 9 * 4 * 5, 256 * 5,
        ),
        (
            lambda: layers.Conv3DTranspose(5, 2, 2), (3, 3, 3, 4),
            27 * 8 * 4 * 5, 216 * 5,
        ),
        (lambda: layers.Conv3D(5, 2), (3, 3, 3, 4), 8 * 8 * 4 * 5, 8 * 5),
        (
            lambda: layers.EinsumDense("abc,cde->abde", (7, 2, 3)), (7, 6),
            7 * 6 * 2 * 3, 7 * 2 * 3,
        ),
        (
            lambda: layers.EinsumDense("...x,xy->...y", 4), (7, 6),
            7 * 6 * 4, 7 * 4,
        ),
        (
            lambda: layers.TimeDistributed(layers.Dense(4)), (7, 6),
            7 * 6 * 4, 7 * 4,
        ),
        (lambda: layers.Embedding(50_000, 4), (7,), 0, 7 * 4),
        (lambda: Embeddings(50_000, 7, 4), (7,), 0, 7 * 4),
        # A sequential model inside another costs what its layers do.
        (
            lambda: keras.Sequential(
                [keras.Input((3,)), layers.Dense(5), layers.ReLU()]
            ), (3,), 15, 2 * 5,
        ),
    ],
)
def test_products_by_hand(layer, shape, products, elements):
    """And eight for each element that is written."""
    assert forward(layer(), shape) == products + 8 * elements


@pytest.mark.parametrize(
    "make",
    [
        lambda: layers.MultiHeadAttention(2, 3),
        lambda: layers.GroupQueryAttention(3, 2, 2),
    ],
)
@pytest.mark.parametrize("length", [7, 70])
def test_attention_by_hand(make, length):
    """Scores, of every place with each, and sums by them; two heads of 3."""
    weights = 4 * length * 6 * 6
    scores = 2 * 2 * length * length * 3
    written = 5 * length * 6 + 2 * 2 * length * length
    assert forward(make(), (length, 6), (length, 6)) == (
        weights + scores + 8 * written
    )


def test_attention_without_weights_by_hand():
    """Scores and sums; both write, and the softmax."""
    assert forward(lambda x, y: layers.Attention()([x, y]), (7, 6), (5, 6)) == (
        2 * 7 * 5 * 6 + 8 * (7 * 5 + 7 * 5 + 7 * 6)
    )


def test_operations_by_hand():
    assert forward(keras.ops.matmul, (7, 6), (6, 5)) == 7 * 6 * 5 + 8 * 7 * 5
    assert forward(
        lambda x, y: keras.ops.einsum("bij,bkj->bik", x, y), (7, 6), (5, 6)
    ) == 7 * 6 * 5 + 8 * 7 * 5
    assert forward(lambda x: x + 1, (7, 6)) == 8 * 7 * 6
    scores = layers.Lambda(
        lambda x: keras.ops.matmul(x, keras.ops.transpose(x, (0, 2, 1))),
        output_shape=(7, 7),
    )
    assert forward(scores, (7, 6)) == 7 * 7 * 6 + 8 * 7 * 7


@pytest.mark.parametrize("unroll", [False, True])
def test_recurrent_layers_count_every_step(unroll):
    """Five kernels of four gates, at every step of the input."""
    found = [
        forward(layers.LSTM(5, unroll=unroll), (length, 3))
        for length in (10, 20)
    ]
    # In a loop the first step is traced once more, for its shapes.
    products, written = 10 * (3 + 5) * 4 * 5, 10 * 2 * 4 * 5
    assert found[1] - found[0] == products + 8 * written


def test_unknown_lengths_count_as_64():
    assert forward(layers.Dense(5), (None, 3)) == 64 * (3 * 5 + 8 * 5)
    assert forward(Encoder(6), (None, 6)) == forward(Encoder(6), (64, 6))


def test_branches_and_loops():
    """The dearer branch, and no guess of how long a loop is."""
    square = tf.TensorSpec([3, 3])

    def branches(x):
        return tf.cond(
            tf.reduce_sum(x) > 0, lambda: x, lambda: tf.matmul(x, x)
        )

    def loop(x):
        return tf.while_loop(
            lambda x: tf.reduce_sum(x) > 0, lambda x: (tf.matmul(x, x),), (x,)
        )

    assert multiply_adds(branches, [square]) == (27, 9)
    with pytest.raises(UnknownWork):
        multiply_adds(loop, [square])


def test_layer_that_cannot_be_traced_alone():
    """Its kernels count at every position, its tables do not."""

    class Alone(Embeddings):
        def build(self, shape):
            super().build(shape)
            self.kernel = self.add_weight(shape=(4, 4))

        def call(self, x):
            if not isinstance(x, keras.KerasTensor) and x.shape[0] == 1:
                raise NotImplementedError("one example")
            return super().call(x) @ self.kernel

        def compute_output_spec(self, x):
            return keras.KerasTensor((*x.shape, 4))

    # (A table that no layer of its own has cannot be told from a kernel.)
    assert forward(Alone(50_000, 7, 4), (7,)) == 7 * (16 + 7 * 4) + 8 * 7 * 4


@pytest.mark.parametrize("length", [8, None])
def test_language_model_is_split_evenly(length):
    """A table of 50,000 tokens is no work."""
    if length is None:
        inputs = keras.Input((None,), dtype="int32")
        x = layers.Embedding(50_000, 16)(inputs)
        for i in range(12):
            x = Encoder(16, name=f"encoder_{i}")(x)
        model = keras.Model(inputs, x)
    else:
        model = language_model(length)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        modules = fr_keras.partition(model, 4)
    encoders = [
        sum("encoder" in layer.name for layer in module.layers)
        for module in modules
    ]
    assert max(encoders) == encoders[-1] == 4
    assert min(encoders) >= 2


def test_uneven_modules_are_reported():
    model = keras.Sequential(
        [keras.Input((8,))]
        + [layers.Dense(n, name=f"d{n}") for n in (8, 9, 400, 7)]
    )
    # 4 · 6,800, where even modules take 9,928 / (3 / 4 + 1 / 3).
    with pytest.warns(
        UserWarning,
        match="Module 3 of 4 .* 3.0 times.*74%.*100%.*'d400'.*measure_costs",
    ) as records:
        fr_keras.partition(model, 4)
    assert [r.filename for r in records] == [__file__]
    # Of the one who calls, however many frames of libraries are between.
    with pytest.warns(UserWarning, match="Module 3 of 4") as records:
        fr_keras.FeaturesReplay(model, 4)
    assert [r.filename for r in records] == [__file__]
    # By costs of one's own 3 · 9, where even ones take 10 / (1 / 4 + 1 / 3).
    with pytest.warns(
        UserWarning, match="Module 2 of 2 .*1.6 times.*87%"
    ) as records:
        fr_keras.partition(model, 2, dict(d8=0, d9=1, d400=0, d7=9))
    assert "measure" not in str(records[0].message)


def test_even_modules_are_not_reported():
    model = keras.Sequential(
        [keras.Input((8,))] + [layers.Dense(8) for _ in range(8)]
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for num_modules in (1, 2, 3, 4):
            fr_keras.partition(model, num_modules)
