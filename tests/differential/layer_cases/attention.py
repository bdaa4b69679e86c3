"""Rows of attention."""

import keras

from tests.differential.layer_cases.calls import on_itself, on_list

layers = keras.layers


def attention_lora():
    layer = layers.MultiHeadAttention(2, 3)

    def call(x):
        outputs = layer(x, x)
        layer.query_dense.enable_lora(2)
        return outputs

    return call


ROWS = {
    "Attention": {
        "": ("sequences", lambda: on_list(layers.Attention())),
        "options": (
            "sequences",
            lambda: on_list(
                layers.Attention(
                    use_scale=True, score_mode="concat", dropout=0.3, seed=3
                )
            ),
        ),
        "masked": (
            "masked sequences",
            lambda: on_list(layers.Attention(use_scale=True)),
        ),
    },
    "AdditiveAttention": {
        "": ("sequences", lambda: on_list(layers.AdditiveAttention())),
        "masked, no scale": (
            "masked sequences",
            lambda: on_list(layers.AdditiveAttention(use_scale=False)),
        ),
    },
    "MultiHeadAttention": {
        "": ("sequences", lambda: layers.MultiHeadAttention(2, 3)),
        "causal": (
            "sequence",
            lambda: on_itself(
                layers.MultiHeadAttention(2, 3), use_causal_mask=True
            ),
        ),
        "masked, dropout": (
            "masked",
            lambda: on_itself(
                layers.MultiHeadAttention(2, 3, dropout=0.3, seed=3)
            ),
        ),
        "scores, regularizers": (
            "sequence",
            lambda: on_itself(
                layers.MultiHeadAttention(
                    2, 3, value_dim=2, output_shape=3,
                    kernel_regularizer="l2", bias_regularizer="l2",
                ),
                return_attention_scores=True,
            ),
        ),
        "enable_lora": ("sequence", lambda: attention_lora()),
    },
    "GroupedQueryAttention": {
        "": ("sequences", lambda: layers.GroupQueryAttention(2, 4, 2)),
        "causal, dropout": (
            "sequence",
            lambda: on_itself(
                layers.GroupQueryAttention(2, 4, 2, dropout=0.3, seed=3),
                use_causal_mask=True,
            ),
        ),
    },
}
