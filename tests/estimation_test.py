"""Estimates, beside what is counted by hand and what is measured."""

import keras
import numpy as np
import pytest

from fr_keras import models
from fr_keras.profiling.estimation import estimate_calls
from fr_keras.profiling.measurement import measure_calls

layers = keras.layers


def test_times_by_hand():
    """Multiply-adds of the kernel, and eight for each element of the output."""
    model = keras.Sequential([
        keras.Input((10,)),
        layers.Dense(20), layers.ReLU(), layers.Dense(5, trainable=False),
    ])
    forward = [2 * 3 * n for n in (10 * 20 + 8 * 20, 8 * 20, 20 * 5 + 8 * 5)]
    # The first has no gradient of its input, the others none of weights.
    calls = estimate_calls(model, batch_size=3, flops_per_second=1.0)
    assert [call.cost for call in calls] == [(n, n) for n in forward]
    fast = estimate_calls(model, batch_size=3, flops_per_second=2.0)
    assert [call.cost.forward for call in fast] == [n / 2 for n in forward]


def test_attention_by_hand():
    """Four products with weights, scores and their sums over the places.

    All of them write, and the softmax of the scores.
    """
    length, width, heads = 7, 6, 2
    x = keras.Input((length, width))
    attention = layers.MultiHeadAttention(heads, width // heads)
    model = keras.Model(x, attention(x, x))
    (call,) = estimate_calls(model, batch_size=1, flops_per_second=2.0)
    products = 4 * length * width * width + 2 * length * length * width
    written = 8 * (5 * length * width + 2 * heads * length * length)
    assert call.cost == (products + written, products + written)


@pytest.mark.parametrize(
    "make, x",
    [
        (lambda: models.resnet(20, 10, (8, 8, 3)), np.ones([2, 8, 8, 3])),
        (
            lambda: models.transformer(2, 32, 2, 11, 16, dropout=0.1),
            np.ones([4, 16], int),
        ),
    ],
)
def test_memory_is_what_is_measured(make, x, monkeypatch):
    """Nothing is run for it, and still the same is kept."""
    monkeypatch.setattr(
        "fr_keras.profiling.measurement.seconds_of", lambda *args: 1.0
    )
    model = make()
    estimated = estimate_calls(model, len(x), flops_per_second=1.0)
    measured = measure_calls(model, x)
    assert [call.name for call in estimated] == [c.name for c in measured]
    for mine, theirs in zip(estimated, measured):
        assert mine.sizes == theirs.sizes
        assert mine.kept == theirs.kept, mine.name
        # Beside it are kept shapes, and masks of attention, that are constants
        # where all is known beforehand.
        assert mine.own_bytes == pytest.approx(
            theirs.own_bytes, rel=0.05, abs=200
        )


def test_unknown_shapes():
    model = keras.Sequential([keras.Input((None, 3)), layers.Dense(4)])
    with pytest.raises(ValueError, match=r"only the batch size.*Received"):
        estimate_calls(model, batch_size=2, flops_per_second=1.0)
