"""The replay queue against `collections.deque`."""

import collections

import numpy as np
import pytest
import tensorflow as tf

from fr_keras.engine.replay_queue import ReplayQueue

DEVICE = "/job:localhost/replica:0/task:0/device:CPU:3"


def entry(i, size):
    """A nested entry; which one it is shows in every element."""
    return {
        "x": tf.fill([size, 2], float(i)),
        "more": (tf.fill([size], i), [tf.constant([i, -i], tf.int64)]),
    }


SPEC = {
    "x": tf.TensorSpec([None, 2], tf.float32),
    "more": (
        tf.TensorSpec([None], tf.int32), [tf.TensorSpec([2], tf.int64)]
    ),
}


def assert_same(actual, expected):
    assert isinstance(actual, collections.deque)
    assert len(actual) == len(expected)
    for a, b in zip(actual, expected):
        tf.nest.assert_same_structure(a, b)
        for x, y in zip(tf.nest.flatten(a), tf.nest.flatten(b)):
            assert x.dtype == y.dtype
            np.testing.assert_array_equal(x, y)


def sizes(i):
    """Batches of different sizes, an empty one among them."""
    return [3, 1, 4, 0, 5][i % 5]


@pytest.mark.parametrize("in_graph", [False, True])
@pytest.mark.parametrize("length, per_round", [(1, 1), (1, 4), (3, 1), (3, 2)])
def test_first_in_first_out(length, per_round, in_graph):
    """Rounds of load, append, pop and store, like a training function's."""
    queue = ReplayQueue(length, DEVICE)
    queue.build(SPEC)
    expected = collections.deque()

    def call(first, count):
        """Like U iterations: what comes out, oldest first."""
        entries = queue.load(count)
        popped = []
        for i in range(first, first + per_round):
            entries.append(entry(i, sizes(i)))
            if len(entries) > length:
                popped.append(entries.popleft())
        queue.store(entries)
        return popped

    for first in range(0, 6 * per_round, per_round):
        step = tf.function(call) if in_graph else call
        popped = step(first, len(expected))

        expected_popped = []
        for i in range(first, first + per_round):
            expected.append(entry(i, sizes(i)))
            if len(expected) > length:
                expected_popped.append(expected.popleft())
        assert_same(collections.deque(popped), expected_popped)
        assert_same(queue.load(len(expected)), expected)


def test_one_trace_serves_all_batch_sizes():
    queue = ReplayQueue(2, DEVICE)
    queue.build(tf.TensorSpec([None, 2]))
    traces = []

    @tf.function(input_signature=[tf.TensorSpec([None, 2])])
    def push(x):
        traces.append(x)
        entries = queue.load(2)
        assert [e.shape.as_list() for e in entries] == [[None, 2]] * 2
        entries.append(x)
        oldest = entries.popleft()
        queue.store(entries)
        return oldest

    queue.store([tf.fill([1, 2], -2.0), tf.fill([7, 2], -1.0)])
    expected = [(1, -2.0), (7, -1.0), (5, 0.0), (2, 1.0), (0, 2.0)]
    for i, size in enumerate([5, 2, 0, 3, 3]):
        oldest = push(tf.fill([size, 2], float(i)))
        length, value = expected[i]
        np.testing.assert_array_equal(oldest, np.full([length, 2], value))
    assert len(traces) == 1


def test_load_reads_what_was_there_before_store():
    queue = ReplayQueue(1, DEVICE)
    queue.build(tf.TensorSpec([None]))
    queue.store([tf.constant([1.0, 2.0])])

    @tf.function
    def swap(x):
        before = queue.load(1)[0]
        queue.store([x])
        return before

    np.testing.assert_array_equal(swap(tf.constant([3.0])), [1.0, 2.0])
    np.testing.assert_array_equal(swap(tf.constant([4.0, 5.0])), [3.0])
    np.testing.assert_array_equal(queue.load(1)[0], [4.0, 5.0])


def test_stored_tensors_are_not_aliased_by_later_assignments():
    """Handing buffers over must not let a variable change an entry."""
    queue = ReplayQueue(1, DEVICE)
    queue.build(tf.TensorSpec([None]))
    with tf.device(DEVICE):
        variable = tf.Variable([1.0, 2.0])
    queue.store([variable.read_value()])
    variable.assign_add([10.0, 10.0])
    np.testing.assert_array_equal(queue.load(1)[0], [1.0, 2.0])


def test_variables_are_on_the_device():
    queue = ReplayQueue(2, DEVICE, name="inputs_1")
    queue.build(SPEC)
    assert len(queue.variables) == 2 * 3
    assert {variable.device for variable in queue.variables} == {DEVICE}
    assert not queue.trainable_variables
    queue.store([entry(1, 2), entry(2, 3)])
    for tensor in tf.nest.flatten(list(queue.load(2))):
        assert tensor.device == DEVICE


@pytest.mark.parametrize("stored, loaded", [(3, 3), (3, 2), (3, 0), (2, 2)])
def test_load_gives_the_newest(stored, loaded):
    queue = ReplayQueue(3, DEVICE)
    queue.build(SPEC)
    entries = [entry(i, sizes(i)) for i in range(stored)]
    queue.store(entries)
    assert_same(queue.load(loaded), entries[stored - loaded :])


def test_queue_of_length_zero():
    queue = ReplayQueue(0, DEVICE)
    queue.build(SPEC)
    queue.store(collections.deque())
    assert queue.load(0) == collections.deque()


def test_too_many_entries():
    queue = ReplayQueue(2, DEVICE, name="inputs_1")
    queue.build(SPEC)
    kept = [entry(0, 1), entry(1, 2)]
    queue.store(kept)
    with pytest.raises(
        ValueError, match="'inputs_1' holds at most 2.*Received: 3 entries"
    ):
        queue.store([entry(i, 1) for i in range(3)])
    assert_same(queue.load(2), kept)


def test_built_again_keeps_contents():
    queue = ReplayQueue(2, DEVICE)
    queue.build(tf.TensorSpec([None, 2]))
    queue.store([tf.ones([4, 2]), tf.zeros([1, 2])])
    before = [id(variable) for variable in queue.variables]

    queue.build(tf.TensorSpec([None, None]))

    assert [id(variable) for variable in queue.variables] == before
    assert_same(queue.load(2), [tf.ones([4, 2]), tf.zeros([1, 2])])
    shapes = []
    tf.function(lambda: shapes.append(queue.load(1)[0].shape.as_list()))()
    assert shapes == [[None, None]]
    queue.store([tf.ones([4, 3])])
    assert_same(queue.load(1), [tf.ones([4, 3])])
