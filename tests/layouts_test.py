"""`num_modules="auto"`: the fastest of all K modules × r replicas."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf

import fr_keras
from fr_keras.engine import placement
from fr_keras.planning import layouts, links
from tests import known_network
from tests.known_network import LAYER

DEVICES = [f"CPU:{i}" for i in range(4)]

FREE = (math.inf, 0.0)
SLOW = (LAYER / 2, 0.0)  # The gradients of a layer take 2 seconds.


@pytest.fixture
def known(monkeypatch):
    known_network.install(monkeypatch)
    return lambda link: monkeypatch.setattr(
        layouts, "measure_links", lambda devices: link
    )


@pytest.mark.parametrize("method, link, expected", [
    # 13 layers / 4, each 3 and an update of 0.13: 11.44. (K = 4: 39 + 0.39.)
    ("Backprop", FREE, (1, 4)),
    # 4 layers at 3, and their updates, take 12.52.
    ("FeaturesReplay", FREE, (1, 4)),
    # 7 layers at 3, of half of the examples, and their updates: 11.41.
    ("DDG", FREE, (2, 2)),
    # 1.5 times the gradients of 13 layers: 39 seconds more.
    ("FeaturesReplay", SLOW, (4, 1)),
    ("DDG", SLOW, (4, 1)),
    # 50 with K = 1; 45 with K = 4, where features go up and down. With K = 2,
    # 39 / 2, one time the gradients of 7 layers, 14, and 2 for the rest.
    ("Backprop", SLOW, (2, 2)),
])
def test_fastest(method, link, expected, known):
    known(link)
    network = known_network.model()
    model = getattr(fr_keras, method)(network, "auto", DEVICES)
    assert (model.num_modules, model.replicas) == expected
    assert len({module.device for module in model.all_modules}) == 4
    assert set(model.costs) == {layer.name for layer in network.layers}


@pytest.mark.parametrize("method, num_microbatches, expected", [
    # K = 1: 9.75 s of work, 1.69 of updates, 3.25 for 19.5 gradients of layers.
    # K = 2: about 10.5 (M + 1) / M for 7 layers, 0.91, and 7 of them in 1.17.
    ("Pipeline", 2, (1, 4)),
    ("Pipeline", 32, (2, 2)),
    # 12.52 s with K = 4, as with whole batches.
    ("FeaturesReplay", 4, (4, 1)),
])
def test_micro_batches_count(method, num_microbatches, expected, known):
    known((6.0 * LAYER, 0.0))
    model = getattr(fr_keras, method)(
        known_network.model(), "auto", DEVICES,
        num_microbatches=num_microbatches,
    )
    assert (model.num_modules, model.replicas) == expected


def test_it_trains_and_is_saved(known, tmp_path):
    known(SLOW)
    model = fr_keras.Backprop(known_network.model(), "auto", DEVICES)
    model.compile("sgd", "mse")
    x = np.ones([24, known_network.WIDTH], "float32")
    model.fit(x, x, batch_size=8, verbose=0)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert (again.num_modules, again.replicas) == (2, 2)
    for module, other in zip(model.modules, again.modules, strict=True):
        assert len(module.layers) == len(other.layers)


def test_measures_a_real_network():
    """Nothing is stood in for; one device leaves no choice."""
    network = known_network.model()
    before = network.get_weights()
    model = fr_keras.Backprop(network, "auto", ["CPU:1"])
    assert (model.num_modules, model.replicas) == (1, 1)
    model = fr_keras.FeaturesReplay(network, "auto", ["CPU:0", "CPU:1"])
    assert model.num_modules * model.replicas == 2
    assert len(model.costs) == known_network.DEPTH
    for mine, given in zip(network.get_weights(), before, strict=True):
        np.testing.assert_array_equal(mine, given)


@pytest.mark.parametrize("method, options, expected", [
    ("FeaturesReplay", {"replicas": 2}, r"Received: replicas=2, costs=None"),
    ("Backprop", {"costs": {"dense": 1.0}}, r"costs=\{'dense': 1.0\}"),
    ("DNI", {}, r"Received: num_modules='auto' for DNI"),
])
def test_what_cannot_be_chosen(method, options, expected):
    with pytest.raises(ValueError, match=expected):
        getattr(fr_keras, method)(known_network.model(), "auto", **options)


def test_more_devices_than_layers_and_examples():
    network = keras.Sequential([
        keras.Input((3,), batch_size=1), keras.layers.Dense(2),
        keras.layers.Dense(2),
    ])
    with pytest.raises(ValueError, match="Received: 3 devices, batches of 1$"):
        fr_keras.Backprop(network, "auto", DEVICES[:3])


def test_ready_made_modules_are_counted():
    with pytest.raises(ValueError, match="`num_modules` must be 2 or None"):
        fr_keras.Backprop([known_network.model() for _ in range(2)], "auto")


BYTES_PER_SECOND, LATENCY = 1e9, 1e-3


def seconds_of(function, *args):
    """By the edges between devices in the function's graph."""
    graph = tf.function(function).get_concrete_function(*args).graph
    captured = {id(inner): outer for outer, inner in graph.captures}

    def device_of(tensor):
        outer = captured.get(id(tensor))
        return tensor.device if outer is None else outer.device

    seconds = 0.0
    for operation in graph.get_operations():
        if operation.type != "Maximum":
            continue
        seconds += 5e-3  # The work itself.
        seconds += sum(
            LATENCY + tensor.shape[0] * tensor.dtype.size / BYTES_PER_SECOND
            for tensor in operation.inputs
            if device_of(tensor) != operation.device
        )
    return seconds


def test_links(monkeypatch):
    monkeypatch.setattr(links, "seconds_of", seconds_of)
    devices = placement.assign_devices(2, DEVICES[:2])
    bytes_per_second, latency = links.measure_links(devices)
    assert bytes_per_second == pytest.approx(BYTES_PER_SECOND, rel=1e-3)
    assert latency == pytest.approx(LATENCY, rel=1e-3)


def test_no_links():
    assert links.measure_links(placement.assign_devices(1)) == (math.inf, 0.0)
