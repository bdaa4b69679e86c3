"""A model that nobody holds any more leaves nothing in memory.

TensorFlow's registries hold what is registered in them for good, and whatever
holds a traced graph holds the weights that it uses: a search over
hyperparameters would run out of memory.
"""

import gc

import keras
import numpy as np
import pytest
from tensorflow.python.framework.func_graph import FuncGraph

import fr_keras
from fr_keras.algorithms import ALGORITHMS

layers = keras.layers


def graphs():
    """The traced graphs that are in memory."""
    gc.collect()
    return [each for each in gc.get_objects() if isinstance(each, FuncGraph)]


def train(make, optimizer, **arguments):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(16, 6)).astype("float32")
    y = rng.normal(size=(16, 3)).astype("float32")
    network = keras.Sequential([
        keras.Input((6,)), layers.Dense(5, "relu"), layers.Dense(5, "tanh"),
        layers.Dropout(0.1), layers.Dense(3),
    ])
    model = make(network, 2, **arguments)
    model.compile(optimizer, "mse", metrics=["mae"])
    model.fit(x, y, batch_size=4, validation_data=(x, y), verbose=0)
    assert len(graphs()) > 0, "Graphs are looked for in the wrong place."


def check_released(*args, **kwargs):
    keras.utils.clear_session()
    before = {id(graph) for graph in graphs()}
    train(*args, **kwargs)
    keras.utils.clear_session()
    left = [graph.name for graph in graphs() if id(graph) not in before]
    assert not left


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.quick_cases("features_replay")
def test_graphs_are_released(algorithm):
    check_released(ALGORITHMS[algorithm], keras.optimizers.SGD(0.01, 0.9))


@pytest.mark.parametrize("make", [
    lambda: keras.optimizers.AdamW(0.01, clipnorm=1.0, use_ema=True),
    lambda: keras.optimizers.Adam(0.01, gradient_accumulation_steps=2),
    lambda: keras.optimizers.Muon(0.01),
], ids=["adamw", "accumulation", "muon"])
@pytest.mark.quick_cases("accumulation")
def test_graphs_are_released_with_optimizer(make):
    check_released(fr_keras.FeaturesReplay, make())


def test_graphs_of_replicas_are_released():
    check_released(
        fr_keras.FeaturesReplay, keras.optimizers.SGD(0.01), replicas=2
    )
