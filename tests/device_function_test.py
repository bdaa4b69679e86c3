"""Functions on devices: traced once, called where they belong."""

import functools

import pytest
import tensorflow as tf

from fr_keras.engine.device_function import DeviceFunction

DEVICE = "/job:localhost/replica:0/task:0/device:CPU:3"


@pytest.mark.parametrize("run_eagerly", [False, True])
def test_works_on_its_device(run_eagerly):
    function = DeviceFunction(
        lambda x: (x + 1.0, [x * 2.0]), DEVICE, run_eagerly=run_eagerly
    )
    with tf.device("CPU:1"):
        more, (twice,) = function(tf.constant([1.0, 2.0]))
    assert more.device == twice.device == DEVICE
    assert more.numpy().tolist() == [2.0, 3.0]


def test_traced_once_for_many_iterations():
    traces = []
    function = DeviceFunction(lambda x: traces.append(x) or x + 1.0, DEVICE)
    spec = tf.TensorSpec([None, 2])
    outputs, _ = function.trace(spec)

    @tf.function(input_signature=[spec])
    def iterations(x):
        for _ in range(5):
            x = function(x)
        return x

    assert iterations(tf.zeros([3, 2])).numpy().tolist() == [[5.0, 5.0]] * 3
    assert len(traces) == 1
    assert outputs.shape.as_list() == [None, 2]
    calls = [
        op for op in iterations.get_concrete_function().graph.get_operations()
        if "PartitionedCall" in op.type
    ]
    assert len(calls) == 5
    assert all(op.device.endswith("CPU:3") for op in calls)


def test_not_traced_when_run_eagerly():
    seen = []
    function = DeviceFunction(
        lambda x: seen.append(x.numpy()) or x, DEVICE, run_eagerly=True
    )
    function(tf.ones([]))
    function(tf.zeros([]))
    assert seen == [1.0, 0.0]


def test_carries_the_name_of_what_it_does():
    """So that graphs and profiles can be read."""

    def play(factor, x):
        return factor * x

    for function in (play, functools.partial(play, 2.0)):
        args = [tf.TensorSpec([])] * (2 if function is play else 1)
        _, graph = DeviceFunction(function, DEVICE).trace(*args)
        assert graph.name == "play"
