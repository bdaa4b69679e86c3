"""The Transformer: its size, what it can see, and that it is cut."""

import keras
import numpy as np
import pytest

import fr_keras
from fr_keras.models import transformer


def small(**kwargs):
    return transformer(
        depth=3, width=8, num_heads=2, vocabulary_size=11, length=5, **kwargs
    )


def test_parameters():
    """Counted by hand, those of GPT-2 but for an output layer of its own."""
    width, depth, vocabulary, length = 8, 3, 11, 5
    attention = 4 * (width * width + width)
    dense = 2 * 4 * width * width + 4 * width + width
    norms = 2 * 2 * width
    assert small().count_params() == (
        depth * (attention + dense + norms)
        + 2 * vocabulary * width + length * width + 2 * width
    )


def test_sees_no_later_token():
    model = small()
    tokens = np.array([[1, 2, 3, 4, 5]])
    changed = np.array([[1, 2, 3, 9, 9]])
    before, after = model(tokens).numpy(), model(changed).numpy()
    np.testing.assert_allclose(before[:, :3], after[:, :3], atol=1e-6)
    assert np.abs(before[:, 3:] - after[:, 3:]).max() > 1e-4


def test_knows_places():
    """The same token, seen from places with the same tokens before them."""
    logits = small()(np.array([[7, 7, 7, 7, 7]])).numpy()[0]
    assert len(np.unique(logits.round(6), axis=0)) == 5


@pytest.mark.parametrize(
    "num_modules", [pytest.param(2, marks=pytest.mark.slow), 4]
)
def test_is_cut_and_learns(num_modules):
    """The next token of a text that counts."""
    tokens = (np.arange(64)[:, None] + np.arange(6)) % 11
    model = fr_keras.FeaturesReplay(small(dropout=0.1), num_modules)
    model.compile(
        keras.optimizers.Adam(0.01),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"], steps_per_execution=4,
    )
    model.fit(tokens[:, :-1], tokens[:, 1:], batch_size=8, epochs=12, verbose=0)
    _, accuracy = model.evaluate(tokens[:, :-1], tokens[:, 1:], verbose=0)
    assert accuracy > 0.95


def test_is_saved(tmp_path):
    model = small()
    model.save(tmp_path / "model.keras")
    tokens = np.array([[1, 2, 3, 4, 5]])
    np.testing.assert_array_equal(
        keras.models.load_model(tmp_path / "model.keras")(tokens),
        model(tokens),
    )


@pytest.mark.parametrize(
    "change, expected",
    [
        ({"depth": 0}, r"`depth` must be at least 1. Received: depth=0"),
        ({"length": 0}, r"`length` must be at least 1"),
        ({"num_heads": 3}, r"divisible by `num_heads`. Received: width=8"),
        ({"dropout": 1.0}, r"`dropout` must be at least 0 and below 1"),
    ],
)
def test_mistakes(change, expected):
    arguments = {
        "depth": 1, "width": 8, "num_heads": 2, "vocabulary_size": 3,
        "length": 4, **change,
    }
    with pytest.raises(ValueError, match=expected):
        transformer(**arguments)


def test_positions_need_a_length():
    with pytest.raises(ValueError, match="fixed length.*Received: input_shape"):
        fr_keras.layers.PositionEmbedding()(keras.Input((None, 4)))
