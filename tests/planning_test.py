"""Predictions, on a network whose times and sizes are known."""

import keras
import numpy as np
import pytest

from fr_keras import FeaturesReplay
from fr_keras.cutting.costs import Cost
from fr_keras.planning import planner as planner_module
from fr_keras.planning.planner import Planner
from fr_keras.profiling.measurement import Call
from tests import known_network
from tests.known_network import DEPTH, LAYER, TENSOR


@pytest.fixture
def planner(monkeypatch):
    known_network.install(monkeypatch)
    return Planner(known_network.model(), known_network.batch())


def test_time(planner):
    """3, 3, 3 and 4 layers: 4 forward units each, but 3 of the last."""
    found = planner.predict(4)
    assert found.split_points == (3, 6, 9)
    assert [times.forward for times in found.times] == [3.0, 3.0, 3.0, 4.0]
    assert [times.backward for times in found.times] == [6.0, 6.0, 6.0, 8.0]
    updates = [0.39, 0.39, 0.39, 0.52]
    assert [t.update for t in found.times] == pytest.approx(updates)
    assert found.seconds["features_replay"] == pytest.approx(12.52)
    assert found.seconds["backprop"] == pytest.approx(39.39)


def test_one_device_is_what_was_measured(planner):
    found = planner.predict(1)
    assert found.seconds["features_replay"] == pytest.approx(DEPTH * 3.13)
    assert found.sent == []


def test_memory(planner):
    """Weights, gradients and momentum; queue; features; activations."""
    found = planner.predict(4)
    memories = found.memory["features_replay"]
    for k, (num_layers, memory) in enumerate(zip([3, 3, 3, 4], memories)):
        queue = (3 - k) * TENSOR
        delta = TENSOR if k < 3 else 0
        activations = (num_layers + 1) * TENSOR + num_layers * 100
        # The optimizer counts its updates, too.
        assert memory == pytest.approx(
            3 * num_layers * LAYER + queue + delta + activations, abs=100
        )


@pytest.mark.parametrize(
    ("schedule", "kept"),
    [
        # Of activations a, weights w, features f, modules k from 0.
        ("backprop", lambda a, w, f, k: a + f * (k < 3)),
        ("ddg", lambda a, w, f, k: (4 - k) * a + (3 - k) * w + f * (k < 3)),
        # Of eight micro-batches: the sum of gradients and an error gradient.
        ("gpipe", lambda a, w, f, k: w + f * (k < 3) / 8 + f + a / 8),
        ("1f1b", lambda a, w, f, k: w + f * (k < 3) / 8 + a * (4 - k) / 8),
        ("zb-h1", lambda a, w, f, k: w + f * (k < 3) / 8 + a * 4 / 8),
        ("zb-h2", lambda a, w, f, k: w + f * (k < 3) / 8 + a * 7 / 8),
        # A queue of K - k whole inputs, all of δ, and what one replay needs.
        (
            "features_replay_microbatches",
            lambda a, w, f, k: w + (3 - k) * f + f * (k < 3) + a / 8,
        ),
    ],
)
def test_memory_of_methods(planner, schedule, kept):
    found = planner.predict(4, schedules=(schedule,), num_microbatches=8)
    assert list(found.memory) == list(found.seconds) == [schedule]
    for k, (num_layers, memory) in enumerate(
        zip([3, 3, 3, 4], found.memory[schedule])
    ):
        weights = num_layers * LAYER
        activations = (num_layers + 1) * TENSOR + num_layers * 100
        assert memory == pytest.approx(
            3 * weights + kept(activations, weights, TENSOR, k), abs=100
        )


def test_interleaved(monkeypatch):
    """Two modules on each device: half as long to wait, at two places."""
    model = keras.Sequential(
        [keras.Input((4,))] + [keras.layers.Dense(4) for _ in range(8)]
    )

    def estimate_calls(graph, batch_size, flops_per_second):
        return [
            Call(
                node.operation.name, Cost(1.0, 2.0), 100, set(),
                dict.fromkeys(
                    map(id, [*node.input_tensors, *node.output_tensors]), 64
                ),
            )
            for node in graph.nodes
        ]

    monkeypatch.setattr(planner_module, "estimate_calls", estimate_calls)
    planner = Planner(
        model, np.zeros([4, 4], "float32"), flops_per_second=1.0
    )
    schedules = ("1f1b", "interleaved-1f1b")
    found = planner.predict(2, schedules=schedules, num_microbatches=4)
    # (Narayanan et al., 2021: of 12 seconds of work on each of D = 2 devices,
    # (D - 1) / M are added, or half of that with two modules on each.)
    assert found.seconds["1f1b"] == pytest.approx(12 * 5 / 4)
    assert found.seconds["interleaved-1f1b"] == pytest.approx(12 * 9 / 8)
    # Parameters, gradients, momentum, and a sum of gradients: 4 layers of 20
    # numbers. The first device has the activations of 2 layers of 5 of 8
    # micro-batches (each of both modules), the second of 3.
    weights, features = 4 * 4 * 20 * 4, 64 / 4
    for device, (in_flight, boundaries) in enumerate([(5, 2), (3, 1)]):
        assert found.memory["interleaved-1f1b"][device] == pytest.approx(
            weights + boundaries * features + in_flight * 200 / 4, abs=100
        )
    # Times of a whole device are those of its modules.
    assert [t.forward for t in found.times] == [4.0, 4.0]
    for num_modules, num_microbatches in ((2, 5), (8, 8)):
        found = planner.predict(
            num_modules, schedules=schedules, num_microbatches=num_microbatches
        )
        assert list(found.seconds) == list(found.memory) == ["1f1b"]


def test_replicas(planner):
    """Half of the examples each; weights, and gradients sent, for all."""
    found = planner.predict(4, replicas=2)
    assert [times.forward for times in found.times] == [1.5, 1.5, 1.5, 2.0]
    assert [times.backward for times in found.times] == [3.0, 3.0, 3.0, 4.0]
    updates = [0.39, 0.39, 0.39, 0.52]
    assert [t.update for t in found.times] == pytest.approx(updates)
    assert found.sent == [TENSOR] * 3
    assert found.exchanged == [3 * LAYER, 3 * LAYER, 3 * LAYER, 4 * LAYER]
    assert found.seconds["features_replay"] == pytest.approx(6.52)
    memories = found.memory["features_replay"]
    for k, (num_layers, memory) in enumerate(zip([3, 3, 3, 4], memories)):
        of_examples = (
            (3 - k) * TENSOR + TENSOR * (k < 3) + (num_layers + 1) * TENSOR
            + num_layers * 100
        )
        assert memory == pytest.approx(
            4 * num_layers * LAYER + of_examples / 2, abs=100
        )


def test_exchange_of_gradients(planner):
    """Four copies: 2 · 3/4 of the gradients, in two steps."""
    found = planner.predict(
        1, bytes_per_second=LAYER / 2, latency=0.25, replicas=4
    )
    assert found.exchanged == [1.5 * DEPTH * LAYER]
    assert found.seconds["backprop"] == pytest.approx(
        DEPTH * 3 / 4 + DEPTH * 0.13 + 2 * 1.5 * DEPTH + 0.5
    )


def test_links(planner):
    found = planner.predict(4, bytes_per_second=TENSOR / 2, latency=0.5)
    assert found.sent == [2 * TENSOR] * 3
    assert [times.send_up for times in found.times] == [2.5, 2.5, 2.5, 0.0]
    assert [times.send_down for times in found.times] == [0.0, 2.5, 2.5, 2.5]
    # A batch goes up by plays, and its error gradient comes down by one module
    # an iteration, to the bottom in K: 3 plays of 3, 3 ways up, the last
    # module's 4 + 8; 3 ways down, each with a replay of 3 and a backward pass
    # of 6; and the update of module 1.
    assert found.seconds["features_replay"] == pytest.approx(
        (9 + 7.5 + 12 + 3 * (2.5 + 9) + 0.39) / 4
    )
    # Back-propagation waits for everything: 3 times up, 3 times down.
    assert found.seconds["backprop"] == pytest.approx(39.39 + 15)


def test_too_many_devices(planner):
    with pytest.raises(ValueError, match="at most 13"):
        planner.predict(14)


def test_what_passes_is_not_queued(monkeypatch):
    """The second input skips over module 1, which queues the first only."""
    # Measured times of layers so small could put the cut elsewhere.
    monkeypatch.setattr(
        planner_module, "find_split_points", lambda *_, **__: (1,)
    )
    a, b = keras.Input((3,)), keras.Input((500,))
    x = keras.layers.Dense(4, name="below")(a)
    x = keras.layers.Concatenate()([x, b])
    model = keras.Model([a, b], keras.layers.Dense(4, name="above")(x))
    planner = Planner(
        model, [np.ones([2, 3], "float32"), np.ones([2, 500], "float32")]
    )
    first, second = planner.predict(2).memory["features_replay"]
    assert first < 2 * 500 * 4 + 500 < 2 * (500 * 4 * 4) < second


def test_nothing_to_train():
    model = keras.Sequential([
        keras.Input((4,)), keras.layers.Dense(4), keras.layers.Dense(4)
    ])
    model.trainable = False
    planner = Planner(model, np.ones([2, 4], "float32"))
    found = planner.predict(2)
    assert [times.backward for times in found.times] == [0.0, 0.0]
    assert found.seconds["features_replay"] > 0


def test_measures_a_real_network():
    """Without stand-ins: shares of the network add up to the whole."""
    model = keras.Sequential([
        keras.Input((6, 6, 3)),
        keras.layers.Conv2D(4, 3, activation="relu"),
        keras.layers.Flatten(),
        keras.layers.Dense(5),
    ])
    optimizer = keras.optimizers.Adam()
    planner = Planner(
        model, np.ones([4, 6, 6, 3], "float32"), optimizer=optimizer
    )
    assert int(optimizer.iterations) == 0  # It can still be given to `compile`.
    FeaturesReplay(model, 2).compile(optimizer, "mse")
    for num_modules in (1, 2):
        found = planner.predict(num_modules)
        whole = planner.whole
        assert sum(t.forward for t in found.times) == pytest.approx(
            whole.forward
        )
        assert sum(t.update for t in found.times) == pytest.approx(whole.update)
        assert found.seconds["features_replay"] > 0


def test_slow_links_want_a_narrow_place(monkeypatch):
    """Seven equal layers: balanced, 3 and 4 of them; narrow behind 2."""
    model = keras.Sequential(
        [keras.Input((64,))]
        + [keras.layers.Dense(w) for w in (64, 2, 64, 64, 64, 64, 64)]
    )

    def estimate_calls(graph, batch_size, flops_per_second):
        calls = []
        for node in graph.nodes:
            layer = node.operation
            tensors = [*node.input_tensors, *node.output_tensors]
            calls.append(Call(
                layer.name, Cost(1.0, 2.0), 0, set(),
                {id(t): 4 * batch_size * t.shape[1] for t in tensors},
            ))
        return calls

    monkeypatch.setattr(planner_module, "estimate_calls", estimate_calls)
    planner = Planner(
        model, np.zeros([2, 64], "float32"), flops_per_second=1.0
    )
    fast = planner.predict(2, bytes_per_second=1e9)
    assert fast.split_points == (3,)
    assert fast.seconds["features_replay"] == pytest.approx(12.0, abs=1e-3)
    slow = planner.predict(2, bytes_per_second=64)
    assert slow.split_points == (2,)
    assert slow.sent == [2 * 4 * 2 * 2]
    assert slow.seconds["features_replay"] == pytest.approx(15.0)


def test_a_link_sends_no_more_than_it_can():
    """512 bytes at 16 a second, each way; what waits for it can wait."""
    model = keras.Sequential(
        [keras.Input((64,))] + [keras.layers.Dense(64) for _ in range(2)]
    )
    planner = Planner(
        model, np.zeros([2, 64], "float32"), flops_per_second=1e15
    )
    found = planner.predict(2, bytes_per_second=16)
    assert found.seconds["ddg"] >= 32


def test_optimizer_slots():
    for optimizer, slots in (
        (keras.optimizers.SGD(0.1), 0),
        (keras.optimizers.SGD(0.1, momentum=0.9), 1),
        (keras.optimizers.Adam(), 2),
    ):
        assert planner_module._slots_per_parameter(optimizer) == slots


def test_load_of_sending(planner):
    """Cores that send and receive do so in the time of the iteration."""
    free, busy = (
        planner.predict(2, bytes_per_second=TENSOR / 2, load=load)
        for load in (0.0, 1.0)
    )
    # Module 2 sends and receives for 2 seconds each; 7 of 13 layers at 3.13.
    assert free.seconds["ddg"] == pytest.approx(21.91)
    assert busy.seconds["ddg"] == pytest.approx(21.91 + 4)
    # While one of its devices sends, the others have nothing to do.
    assert busy.seconds["backprop"] == free.seconds["backprop"]
    assert busy.times == free.times
