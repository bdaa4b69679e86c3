"""What passes through a module is led around it."""

import keras
import numpy as np
import pytest

import fr_keras
from fr_keras.engine.wiring import Wiring

layers = keras.layers


def functional():
    """Uses `a` and `b`, passes `b` and `c` on, ignores `d`."""
    a, b, c, d = (keras.Input((n,), name=name) for n, name in
                  ((2, "a"), (3, "b"), (4, "c"), (5, "d")))
    x = layers.Dense(6)(layers.Concatenate()([a, b]))
    return keras.Model([a, b, c, d], [c, x, b])


def test_functional_model():
    wiring = Wiring(functional(), 4, 3, is_last=False)
    assert wiring.used == [0, 1]
    assert wiring.computed == [1]
    assert wiring.passthrough == {0: 2, 2: 1}
    assert [tensor.name for tensor in wiring.core.inputs] == ["a", "b"]
    assert wiring.output(["a", "b", "c", "d"], ["x"]) == ["c", "x", "b"]


def test_core_makes_what_the_model_makes():
    model = functional()
    wiring = Wiring(model, 4, 3, is_last=False)
    inputs = [np.random.rand(2, n).astype("float32") for n in (2, 3, 4, 5)]
    computed = wiring.core([inputs[j] for j in wiring.used])
    np.testing.assert_array_equal(computed, model(inputs)[1])


class Subclassed(keras.Model):
    def call(self, x):
        return x


@pytest.mark.parametrize(
    "submodel, is_last",
    [
        (functional(), True),
        (Subclassed(), False),
        (keras.Sequential([keras.Input((3,)), layers.Dense(2)]), False),
        (layers.Dense(2), False),
    ],
)
def test_nothing_passes_through(submodel, is_last):
    wiring = Wiring(submodel, 4, 3, is_last)
    assert wiring.core is submodel
    assert wiring.used == [0, 1, 2, 3] and wiring.computed == [0, 1, 2]
    assert wiring.passthrough == {}


def test_what_passes_is_neither_queued_nor_copied():
    """A skip from module 1 to 4, and data that only module 4 takes."""
    x, late = keras.Input((3,), name="x"), keras.Input((7,), name="late")
    skip = layers.Dense(5, name="d1")(x)
    h = layers.Dense(4, name="d2")(skip)
    h = layers.Dense(4, name="d3")(h)
    joined = layers.Concatenate()([h, skip, late])
    network = keras.Model([x, late], layers.Dense(2, name="d4")(joined))
    model = fr_keras.FeaturesReplay(network, 4)
    model.compile("sgd", "mse")
    model.fit(
        [np.ones([32, 3]), np.ones([32, 7])], np.ones([32, 2]), batch_size=4,
        verbose=0,
    )
    # Of each input that is kept, its width: the skip is an input of module 2,
    # but only passes through module 3.
    widths = [
        {variable.numpy().shape[-1] for variable in queue.variables}
        for queue in model.pipeline._replay_queues
    ]
    assert widths == [{3}, {5}, {4}]
    # Its error gradient stops at every module, that of the data nowhere.
    widths = [
        sorted(variable.numpy().shape[-1] for variable in queue.variables)
        for queue in model.pipeline._deltas
    ]
    assert widths == [[5], [4, 5], [4, 5]]
    # No operation of the devices in between touches the skip or the data.
    graph = model.training.graph
    for op in graph.get_operations():
        if op.device.endswith(("CPU:1", "CPU:2")) and "Call" in op.type:
            assert 7 not in [t.shape[-1] for t in op.inputs if t.shape.rank]
