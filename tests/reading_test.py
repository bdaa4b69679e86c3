"""Drawing of batches from iterators."""

import numpy as np
import pytest
import tensorflow as tf

from fr_keras.batches.reading import draw_up_to

X = np.arange(14, dtype="float32").reshape(7, 2)
Y = np.arange(7)
DATASETS = {
    "tensors": (X, Y),
    "one tensor": (X,),
    "nested": ({"a": X, "b": (X, Y)}, Y),
    "ragged": (tf.RaggedTensor.from_row_lengths(Y, [1] * 7), Y),
    "not in a tuple": X,
}


def flat(nest):
    return [
        np.asarray(tensor)
        for tensor in tf.nest.flatten(nest, expand_composites=True)
    ]


@pytest.mark.parametrize("count", [1, 2, 3, 5])
@pytest.mark.parametrize("kind", DATASETS)
def test_draws_what_iterating_gives(kind, count):
    dataset = tf.data.Dataset.from_tensor_slices(DATASETS[kind]).batch(2)
    iterator, drawn = iter(dataset), []
    while found := draw_up_to(count, iterator):
        assert len(found) == min(count, 4 - len(drawn))
        drawn.extend(found)
    expected = list(dataset)
    assert len(drawn) == len(expected) == 4
    tf.nest.assert_same_structure(drawn[0], expected[0])
    for ours, theirs in zip(drawn, expected):
        for a, b in zip(flat(ours), flat(theirs), strict=True):
            np.testing.assert_array_equal(a, b)


def test_shapes_are_those_of_the_batch():
    dataset = tf.data.Dataset.from_tensor_slices((X, Y)).batch(4)
    shapes = [x.shape for x, _ in draw_up_to(3, iter(dataset))]
    assert shapes == [[4, 2], [3, 2]]


def test_iterators_that_are_not_of_tensorflow():
    assert draw_up_to(3, iter([1, 2])) == [1, 2]


def test_errors_of_the_dataset_are_raised():
    dataset = tf.data.Dataset.from_tensor_slices((X, Y)).map(
        lambda x, y: (tf.debugging.check_numerics(x / 0.0, "broken"), y)
    )
    with pytest.raises(tf.errors.InvalidArgumentError, match="broken"):
        draw_up_to(2, iter(dataset))
