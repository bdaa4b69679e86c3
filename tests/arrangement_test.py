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
    ("features", "gradients", "pipelines", "copies"),
    [
        # Of two pipelines of two modules, within machines: each of two copies
        # of two modules sends half of its gradients to the other, twice.
        ([0], [100, 10], 2 * 2 * (50 + 5), 0),
        # With the copies within machines, half of the features cross in each
        # pipeline, there and back.
        ([1000], [0, 0], 0, 2 * 2 * 500),
        ([30], [100, 10], 220, 60),
    ],
)
def test_what_crosses(features, gradients, pipelines, copies):
    a, b, c, d = MACHINES
    found = [
        arrangement.bytes_between_machines(names, features, gradients)
        for names in ((a, b, c, d), (a, c, b, d))
    ]
    assert found == [pipelines, copies]


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


def test_given_devices_are_kept(two_machines):
    model = fr_keras.Backprop(
        network(1000, 1, 1000), num_modules=2, replicas=2, devices=two_machines
    )
    assert list(model.devices) == two_machines[:2]


def test_one_machine_keeps_the_order():
    model = fr_keras.Backprop(network(1000, 1, 1000), 2, replicas=2)
    numbers = [int(name.rpartition(":")[2]) for name in model.devices]
    assert numbers == [0, 1]
