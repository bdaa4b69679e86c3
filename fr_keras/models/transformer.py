"""Transformers that predict the next token of a text, or classify it."""

import keras

from fr_keras.layers import PositionEmbedding


def transformer(
    depth: int, width: int, num_heads: int, vocabulary_size: int, length: int,
    dropout: float = 0.0, num_classes: int | None = None, padding: int = 0,
) -> keras.Model:
    """Creates a decoder-only Transformer, a language model or a classifier.

    Blocks are those of GPT-2: normalization before attention and before the
    two dense layers, the inner of which is four times as wide. It has about
    `12 * depth * width**2` parameters besides those of the vocabulary.

    Args:
        depth: int, the number of blocks.
        width: int, the length of the vectors between them, divisible by
            `num_heads`.
        num_heads: int, attention heads in each block.
        vocabulary_size: int, the number of different tokens.
        length: int, tokens in a sequence.
        dropout: float, from 0 to below 1, the dropout rate after the
            embedding, attention and the dense layers.
        num_classes: int, the number of classes of a classifier, or `None` for
            a language model.
        padding: int, the token that fills up the sequences of a classifier,
            which averages over the positions of all others.

    Returns:
        Functional `keras.Model` from tokens, integers of shape
        `(batch, length)`, to logits: of the next token at each position, of
        shape `(batch, length, vocabulary_size)`, or of the classes, of shape
        `(batch, num_classes)`.

    Raises:
        ValueError: for a number below 1, a width that is not divisible by
            `num_heads`, or a rate out of range.

    Example:

    ```python
    model = fr_keras.models.transformer(
        depth=24, width=1792, num_heads=14, vocabulary_size=32_000, length=1024
    )
    ```

    Reference:
        Radford et al., Language Models are Unsupervised Multitask Learners
        (2019), section 2.3; [Attention Is All You Need](
        https://arxiv.org/abs/1706.03762).
    """
    for name, number in (
        ("depth", depth), ("width", width), ("num_heads", num_heads),
        ("vocabulary_size", vocabulary_size), ("length", length),
        ("num_classes", num_classes),
    ):
        if number is not None and number < 1:
            raise ValueError(
                f"`{name}` must be at least 1. Received: {name}={number}"
            )
    if width % num_heads:
        raise ValueError(
            "`width` must be divisible by `num_heads`. "
            f"Received: {width=}, {num_heads=}"
        )
    if not 0 <= dropout < 1:
        raise ValueError(
            f"`dropout` must be at least 0 and below 1. Received: {dropout=}"
        )
    tokens = keras.Input((length,), dtype="int32", name="tokens")
    x = keras.layers.Embedding(
        vocabulary_size, width, _initializer(), name="embedding"
    )(tokens)
    x = PositionEmbedding(name="positions")(x)
    x = _dropout(x, dropout, "embedding")
    for i in range(depth):
        x = _block(x, num_heads, dropout, depth, f"block{i + 1}")
    x = _normalization(x, "head_norm")
    if num_classes is not None:
        # Attention is causal, so no other position sees the padding.
        x = keras.layers.GlobalAveragePooling1D(name="mean")(
            x, mask=keras.ops.not_equal(tokens, padding)
        )
    logits = keras.layers.Dense(
        num_classes or vocabulary_size, use_bias=False,
        kernel_initializer=_initializer(), name="logits",
    )(x)
    return keras.Model(tokens, logits, name=f"transformer{depth}x{width}")


def _initializer(scale=1.0):
    return keras.initializers.RandomNormal(stddev=0.02 * scale)


def _normalization(x, name):
    return keras.layers.LayerNormalization(epsilon=1e-5, name=name)(x)


def _dropout(x, rate, name):
    return keras.layers.Dropout(rate, name=f"{name}_dropout")(x) if rate else x


def _block(x, num_heads, dropout, depth, name):
    """Causal self-attention and two dense layers, each with a shortcut."""
    width = x.shape[-1]
    # The more blocks, the smaller the additions to the shortcuts (except for
    # attention, where Keras has one initializer for all kernels).
    last = _initializer((2 * depth) ** -0.5)
    y = _normalization(x, f"{name}_1_norm")
    y = keras.layers.MultiHeadAttention(
        num_heads, width // num_heads, kernel_initializer=_initializer(),
        name=f"{name}_attention",
    )(y, y, use_causal_mask=True)
    y = _dropout(y, dropout, f"{name}_1")
    x = keras.layers.Add(name=f"{name}_1_add")([x, y])
    y = _normalization(x, f"{name}_2_norm")
    y = keras.layers.Dense(
        4 * width, "gelu", kernel_initializer=_initializer(),
        name=f"{name}_inner",
    )(y)
    y = keras.layers.Dense(
        width, kernel_initializer=last, name=f"{name}_outer"
    )(y)
    y = _dropout(y, dropout, f"{name}_2")
    return keras.layers.Add(name=f"{name}_2_add")([x, y])
