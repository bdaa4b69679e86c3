"""Where algorithms split a model."""

import keras
import numpy as np
import pytest

import fr_keras

ALGORITHMS = {
    **fr_keras.ALGORITHMS,
    "features_replay, micro-batches": lambda *args, **kwargs: (
        fr_keras.FeaturesReplay(*args, num_microbatches=2, **kwargs)
    ),
}


def network(depth=8):
    """Equal layers."""
    return keras.Sequential([
        keras.Input((5,)), *(keras.layers.Dense(5) for _ in range(depth))
    ])


def depths(model):
    return [len(module.layers) - 1 for module in model.modules]


@pytest.mark.parametrize("name", ALGORITHMS)
def test_modules_are_balanced_for_their_method(name):
    """Of a layer's forward passes, 12 and 15, or 12 in both."""
    model = ALGORITHMS[name](network(), 2)
    assert depths(model) == ([3, 5] if "replay" in name else [4, 4])


def test_modules_that_a_function_returns():
    for replays, expected in ((True, [3, 5]), (False, [4, 4])):
        modules = fr_keras.partition(network(), 2, replays=replays)
        assert [len(module.layers) - 1 for module in modules] == expected


@pytest.mark.parametrize("name", ALGORITHMS)
def test_given_places(name):
    model = ALGORITHMS[name](network(), split_points=[1, np.int64(3)])
    assert depths(model) == [1, 2, 5]
    assert model.split_points == (1, 3)
    model = type(model).from_config(model.get_config())
    assert depths(model) == [1, 2, 5]


def test_places_of_the_planner():
    from fr_keras.planning.planner import Planner

    planner = Planner(network(), np.ones([4, 5]), flops_per_second=1e9)
    found = planner.predict(2, schedules=("1f1b",))
    model = fr_keras.Pipeline(network(), split_points=found.split_points)
    assert depths(model) == [4, 4]


@pytest.mark.parametrize(
    "points", [[0], [8], [9], [3, 3], [5, 2], [-1], [1.5], 3, ["1"]]
)
def test_wrong_places(points):
    with pytest.raises(ValueError, match="`split_points` must be.*Received"):
        fr_keras.FeaturesReplay(network(), split_points=points)


def test_places_without_weights():
    layers = [keras.layers.Dense(5), keras.layers.ReLU(), keras.layers.Dense(5)]
    model = keras.Sequential([keras.Input((5,)), *layers])
    with pytest.raises(ValueError, match="that have weights"):
        fr_keras.FeaturesReplay(model, split_points=[1, 2])
    assert depths(fr_keras.FeaturesReplay(model, split_points=[2])) == [2, 1]


def test_places_and_other_arguments():
    with pytest.raises(ValueError, match="must be 2 or None.*num_modules=3"):
        fr_keras.FeaturesReplay(network(), 3, split_points=[2])
    modules = fr_keras.partition(network(), 2)
    with pytest.raises(ValueError, match="must be None.*list of modules"):
        fr_keras.FeaturesReplay(modules, split_points=[2])


@pytest.mark.parametrize("name", fr_keras.ALGORITHMS)
def test_files_of_the_first_version(name):
    """It balanced all methods for Features Replay, and did not say where."""
    config = fr_keras.ALGORITHMS[name](network(), 2).get_config()
    del config["split_points"]
    assert depths(fr_keras.ALGORITHMS[name].from_config(config)) == [3, 5]
