"""Devices of several machines are arranged so that little crosses."""

import keras
import pytest
import tensorflow as tf

import fr_keras
from fr_keras.engine.placement import assign_devices
from fr_keras.replicas import arrangement

HERE, THERE = "/job:worker/replica:0/task:0", "/job:worker/replica:0/task:1"
MACHINES = [
    f"{machine}/device:GPU:{i}" for machine in (HERE, THERE) for i in (0, 1)
]


@pytest.fixture
def two_machines(monkeypatch):
    """As if only the first two of eight CPU devices were in a machine."""
    def host(device):
        number = int(device.rpartition(":")[2])
        return f"machine {number // 2}"

    monkeypatch.setattr(arrangement, "host", host)
    # The default is all devices.
    monkeypatch.setattr(
        "fr_keras.engine.placement._default_devices",
        lambda: tf.config.list_logical_devices("CPU")[:4],
    )
    return list(assign_devices(4))


@pytest.mark.parametrize(
    ("sent", "exchanged", "pipelines", "copies"),
    [
        # Two pipelines of two modules, each in a machine: each of two copies
        # of two modules sends its gradients to the other machine.
        ([0], [100, 10], 2 * (100 + 10), 0),
        # With the copies in a machine, it is the features of both pipelines.
        ([1000], [0, 0], 0, 2 * 1000),
        ([30], [100, 10], 220, 60),
    ],
)
def test_what_crosses(sent, exchanged, pipelines, copies):
    a, b, c, d = MACHINES
    found = [
        arrangement.bytes_between_machines(names, sent, exchanged)
        for names in ((a, b, c, d), (a, c, b, d))
    ]
    assert found == [pipelines, copies]


def test_copies_of_three_share_what_they_send():
    """Each sends half to either of the others; here, one is elsewhere."""
    devices = [f"{HERE}/device:GPU:{i}" for i in (0, 1)] + MACHINES[2:3]
    # 1 -> 3, 2 -> 3, 3 -> 1 and 3 -> 2.
    assert arrangement.bytes_between_machines(devices, [], [60]) == 4 * 30


def network(inputs, hidden, outputs):
    return keras.Sequential([
        keras.Input((inputs,)),
        keras.layers.Dense(hidden), keras.layers.Dense(outputs),
    ])


@pytest.mark.parametrize(
    ("sizes", "order"),
    [
        # 32 x 1000 features, there and back, and 2000 + 1001 weights.
        ((1, 1000, 1), (0, 1, 2, 3)),
        # 32 x 1 features, and 1001 + 2000 weights.
        ((1000, 1, 1000), (0, 2, 1, 3)),
    ],
)
def test_the_larger_stays_within_machines(two_machines, sizes, order):
    model = fr_keras.Backprop(network(*sizes), num_modules=2, replicas=2)
    assert [
        module.device
        for pipeline in model.pipelines for module in pipeline.modules
    ] == [two_machines[i] for i in order]


def test_shared_weights_cross_whole(two_machines):
    """A table crosses in each pipeline; its gradient returns.

    With the copies in a machine, 2 * 2 * (200 + 32 / 2) numbers would cross:
    the table and the features of a shard. With the pipelines in a machine, the
    gradients of two copies do: 2 * (200 + 21 + 40). A table divided among the
    pipelines, as features are, would be 2 * 2 * (100 + 32 / 2).
    """
    inputs = keras.Input((1,), dtype="int32")
    table = keras.layers.ReversibleEmbedding(10, 20)
    x = keras.layers.Flatten()(table(inputs))
    x = keras.layers.Dense(1, name="narrow")(x)
    x = keras.layers.Dense(20, name="wide")(x)
    network = keras.Model(inputs, table(x, reverse=True))
    costs = dict.fromkeys((layer.name for layer in network.layers), 0.0)
    model = fr_keras.Backprop(
        network, num_modules=2, replicas=2,
        costs=costs | {"narrow": 1.0, "wide": 1.0},
    )
    first, last = model.modules
    assert first.get_layer("narrow") and last.get_layer("wide")
    assert list(model.devices) == two_machines[:2]


def test_given_devices_are_kept(two_machines):
    model = fr_keras.Backprop(
        network(1000, 1, 1000), num_modules=2, replicas=2, devices=two_machines
    )
    assert list(model.devices) == two_machines[:2]


def test_one_machine_keeps_the_order():
    model = fr_keras.Backprop(network(1000, 1, 1000), 2, replicas=2)
    numbers = [int(name.rpartition(":")[2]) for name in model.devices]
    assert numbers == [0, 1]
