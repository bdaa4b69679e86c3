"""Kinds of batches: which batches one traced function serves."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from fr_keras.batches.batch_spec import BatchSpec, standardize_batch

NONE = tf.experimental.Optional.empty(tf.TensorSpec([None], tf.float32))


def zeros(*shape, dtype="float32"):
    return tf.zeros(shape, dtype)


def ragged(*rows):
    return tf.ragged.constant(list(rows), dtype="float32")


# Standardizing.


@pytest.mark.parametrize(
    "batch, present",
    [
        (np.ones([4, 2]), [True, False, False]),
        ((np.ones([4, 2]),), [True, False, False]),
        ((np.ones([4, 2]), np.arange(4)), [True, True, False]),
        ((np.ones([4, 2]), np.arange(4), np.ones(4)), [True, True, True]),
        ((np.ones([4, 2]), np.arange(4), None), [True, True, False]),
        ((np.ones([4, 2]), None, None), [True, False, False]),
        ((np.ones([4, 2]), np.arange(4), NONE), [True, True, False]),
        ((tf.ones([4, 2]), tf.range(4), tf.ones(4)), [True, True, True]),
    ],
)
def test_standardize(batch, present):
    standard = standardize_batch(batch)
    assert isinstance(standard, tuple)
    assert len(standard) == 3
    expected = [np.ones([4, 2]), np.arange(4), np.ones(4)]
    for leaf, is_there, value in zip(standard, present, expected):
        if is_there:
            assert tf.is_tensor(leaf)
            np.testing.assert_array_equal(leaf, value)
        else:
            assert leaf is None


def test_standardize_nests():
    x = {"a": np.ones([4, 2]), "b": [np.ones([4]), ragged([1.0], [2.0, 3.0])]}
    y = (np.arange(4), None)
    got_x, got_y, weight = standardize_batch((x, y))
    assert set(got_x) == {"a", "b"}
    assert tf.is_tensor(got_x["a"])
    assert tf.is_tensor(got_x["b"][0])
    assert isinstance(got_x["b"][1], tf.RaggedTensor)
    assert isinstance(got_y, tuple)
    assert got_y[1] is None
    assert weight is None


@pytest.mark.parametrize("dtype", ["float64", "float32", "int64", "uint8"])
def test_standardize_keeps_dtypes(dtype):
    x, _, _ = standardize_batch(np.ones([4, 2], dtype))
    assert x.dtype == dtype


# Which batches are covered.


@pytest.mark.parametrize(
    "first, second",
    [
        (zeros(8, 3), zeros(5, 3)),
        (zeros(8, 3), zeros(0, 3)),
        (zeros(8), zeros(1)),
        ((zeros(8, 3), zeros(8), None), (zeros(2, 3), zeros(2), None)),
        (
            {"a": zeros(8, 3), "b": [zeros(8)]},
            {"a": zeros(1, 3), "b": [zeros(1)]},
        ),
        (None, None),
        (zeros(), zeros()),  # A scalar has no batch dimension.
        (ragged([1.0], [2.0, 3.0]), ragged([1.0, 2.0, 3.0])),
    ],
)
def test_other_batch_sizes_are_covered(first, second):
    spec = BatchSpec(first)
    for batch in (first, second):
        assert spec.covers(batch)
        assert spec.union(batch) is spec


@pytest.mark.parametrize("kind", [
    (zeros(8, 3), zeros(8), None), {"a": zeros(8, 3), "b": [zeros(8)]},
])
def test_what_was_covered_before_hides_nothing_else(kind):
    """Signatures of batches are remembered, with all that differs."""
    spec = BatchSpec(kind)
    assert spec.covers(kind) and spec.covers(kind)
    for other in (
        tf.nest.map_structure(lambda leaf: None, kind),
        tf.nest.map_structure(
            lambda leaf: leaf if leaf is None else tf.cast(leaf, tf.int32), kind
        ),
        tf.nest.map_structure(
            lambda leaf: leaf if leaf is None else leaf[..., None], kind
        ),
        [kind], (kind,), {"a": kind},
        list(kind.values()) if isinstance(kind, dict) else list(kind),
    ):
        assert not spec.covers(other)


def shapes(spec):
    return [leaf.shape.as_list() for leaf in spec.tensor_specs()]


def test_other_length_opens_the_dimension():
    spec = BatchSpec((zeros(8, 10, 3), zeros(8, 2)))
    assert shapes(spec) == [[None, 10, 3], [None, 2]]
    other = (zeros(8, 7, 3), zeros(8, 2))
    assert not spec.covers(other)

    union = spec.union(other)

    assert union is not spec
    assert shapes(union) == [[None, None, 3], [None, 2]]
    assert shapes(spec) == [[None, 10, 3], [None, 2]]
    for length in (10, 7, 1):
        batch = (zeros(5, length, 3), zeros(5, 2))
        assert union.union(batch) is union
    wider = union.union((zeros(8, 7, 4), zeros(8, 2)))
    assert shapes(wider) == [[None, None, None], [None, 2]]


@pytest.mark.parametrize(
    "first, second",
    [
        (zeros(8, 3), zeros(8, 3, dtype="float64")),
        (zeros(8, 3), zeros(8, 3, dtype="int32")),
        (zeros(8, 3), zeros(8, 3, 1)),
        (zeros(8, 3), zeros(8)),
        (zeros(8), zeros()),
        (zeros(8, 3), [zeros(8, 3)]),
        ([zeros(8)], [zeros(8), zeros(8)]),
        ([zeros(8)], (zeros(8),)),
        ({"a": zeros(8)}, {"b": zeros(8)}),
        ((zeros(8), None), (zeros(8), zeros(8))),
        ((zeros(8), zeros(8)), (zeros(8), None)),
        ((zeros(8), None), (zeros(8), [])),
        (zeros(2, 3), ragged([1.0], [2.0, 3.0])),
        (ragged([1.0], [2.0, 3.0]), zeros(2, 3)),
    ],
)
def test_other_kinds_replace(first, second):
    spec = BatchSpec(first)
    assert spec.covers(first)
    assert not spec.covers(second)

    union = spec.union(second)

    assert union is not spec
    assert union.covers(second)
    assert not union.covers(first)
    # It is as if the first had not been.
    tf.nest.assert_same_structure(union.structure, second, check_types=False)
    assert union.tensor_specs() == BatchSpec(second).tensor_specs()


# Flattening.


BATCHES = [
    (zeros(8, 3), zeros(8, dtype="int64"), None),
    (zeros(8, 3), None, None),
    {"a": [zeros(8), None], "b": (zeros(8, 2), zeros(8, 1))},
    (ragged([1.0], [2.0, 3.0]), zeros(2), None),
    ((ragged([1.0], []), zeros(2)), ragged([1.0], [2.0, 3.0]), zeros(2)),
    zeros(8, 3),
]


def numbered(batch):
    """The batch with other numbers in each of its tensors."""
    leaves = tf.nest.flatten(batch)
    leaves = [
        leaf if leaf is None else leaf + tf.cast(i + 1, leaf.dtype)
        for i, leaf in enumerate(leaves)
    ]
    return tf.nest.pack_sequence_as(batch, leaves)


def assert_same(actual, expected):
    tf.nest.assert_same_structure(actual, expected)
    for a, b in zip(tf.nest.flatten(actual), tf.nest.flatten(expected)):
        assert (a is None) == (b is None)
        if isinstance(b, tf.RaggedTensor):
            assert isinstance(a, tf.RaggedTensor)
            assert a.to_list() == b.to_list()
        elif b is not None:
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("batch", BATCHES)
def test_flatten_and_pack(batch):
    batch = numbered(batch)
    spec = BatchSpec(batch)
    tensors = spec.flatten(batch)
    assert all(
        tf.is_tensor(t) and not isinstance(t, tf.RaggedTensor)
        for t in tensors
    )
    assert_same(spec.pack(iter(tensors)), batch)


def test_pack_takes_as_many_tensors_as_a_batch_has():
    first = numbered(BATCHES[0])
    second = tf.nest.map_structure(lambda x: x if x is None else x * 2, first)
    spec = BatchSpec(first)
    tensors = iter([*spec.flatten(first), *spec.flatten(second)])
    assert_same(spec.pack(tensors), first)
    assert_same(spec.pack(tensors), second)
    assert list(tensors) == []


@pytest.mark.parametrize("batch", BATCHES)
def test_function_of_the_tensor_specs_takes_every_batch_size(batch):
    spec = BatchSpec(batch)
    other = tf.nest.map_structure(
        lambda x: x if x is None else tf.concat([x, x, x], 0), batch
    )

    @tf.function(input_signature=spec.tensor_specs())
    def identity(*tensors):
        packed = spec.pack(iter(tensors))
        return [x for x in tf.nest.flatten(packed) if x is not None]

    for each in (numbered(batch), numbered(other)):
        assert_same(
            identity(*spec.flatten(each)),
            [x for x in tf.nest.flatten(each) if x is not None],
        )


# Symbols.


def test_symbols():
    spec = BatchSpec(
        {"a": zeros(8, 3), "b": (zeros(8, dtype="int64"), None)}
    )
    symbols = spec.symbols()
    assert isinstance(symbols["a"], keras.KerasTensor)
    assert symbols["a"].shape == (None, 3)
    assert symbols["a"].dtype == "float32"
    assert symbols["b"][0].shape == (None,)
    assert symbols["b"][0].dtype == "int64"
    assert symbols["b"][1] is None


def test_symbols_of_open_dimensions():
    spec = BatchSpec(zeros(8, 5, 3)).union(zeros(8, 6, 3))
    assert spec.symbols().shape == (None, None, 3)
