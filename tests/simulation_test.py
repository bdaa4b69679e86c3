"""Simulated schedules against exact numbers, worked out by hand."""

import pytest

from fr_keras.planning import simulation
from fr_keras.profiling.module_times import ModuleTimes


def equal(num_modules):
    return [ModuleTimes(forward=1.0, backward=2.0)] * num_modules


@pytest.mark.parametrize("K", [1, 2, 4, 8])
@pytest.mark.parametrize(
    "schedule, options, expected",
    [
        ("backprop", {}, lambda K: 3 * K),
        ("synchronous", {}, lambda K: K + 3 if K > 1 else 3),
        ("features_replay", {}, lambda K: 4 if K > 1 else 3),
        ("ddg", {}, lambda K: 3),
        ("gpipe", {"num_microbatches": 4}, lambda K: 4 * (4 + K - 1) / 4),
        ("gpipe", {"num_microbatches": 16}, lambda K: 4 * (16 + K - 1) / 16),
        (
            "gpipe", {"num_microbatches": 8, "recompute": False},
            lambda K: 3 * (8 + K - 1) / 8,
        ),
    ],
)
def test_equal_modules(schedule, options, K, expected):
    """In forward passes of a module, which are half a backward pass."""
    found = simulation.seconds_per_step(schedule, equal(K), **options)
    assert found == pytest.approx(expected(K))


@pytest.mark.parametrize("K", [2, 4, 8])
@pytest.mark.parametrize("steps", [1, 4, 24])
def test_a_call_ends_with_the_last_module(K, steps):
    """The last module plays the last batch K - 1 after the first has it.

    Module 1 begins its last play at 4 (U - 1); the last module is done K - 1
    plays, its own and a backward pass later.
    """
    found = simulation.seconds_per_step("features_replay", equal(K), steps)
    assert found == pytest.approx((4 * (steps - 1) + K + 2) / steps)


def test_slowest_module_sets_the_pace():
    modules = [
        ModuleTimes(1.0, 2.0, 0.5), ModuleTimes(2.0, 3.0, 1.0),
        ModuleTimes(1.0, 4.0),
    ]
    # Two forward passes, a backward pass and an update of the second.
    found = simulation.seconds_per_step("features_replay", modules)
    assert found == pytest.approx(8.0)
    # All forward and backward passes, and the update of the first, which is
    # the last to be ready for it.
    found = simulation.seconds_per_step("backprop", modules)
    assert found == pytest.approx(4.0 + 9.0 + 0.5)


def test_modules_on_one_device_take_turns():
    modules = [ModuleTimes(1.0, 2.0, device="a")] * 3
    found = simulation.seconds_per_step("features_replay", modules)
    assert found == pytest.approx(4 + 4 + 3)


def test_sending_takes_time_but_no_device():
    """Old error gradients travel while modules work."""
    modules = [ModuleTimes(1.0, 2.0, send_up=6.0, send_down=2.0)] * 2
    found = simulation.seconds_per_step("features_replay", modules)
    # If module 1 plays batch t at s(t), its error gradient is back at
    # s(t) + 1 + 6 + 3 + 2; then it replays batch t, and 3 later plays batch
    # t + 2: two iterations for the whole way.
    assert found == pytest.approx((1 + 6 + 3 + 2 + 3) / 2)
    found = simulation.seconds_per_step("backprop", modules)
    assert found == pytest.approx(6 + 6 + 2)


def test_events_of_a_small_run():
    """Two modules, two iterations, worked out on paper."""
    events = simulation.simulate("features_replay", equal(2), num_steps=2)
    assert [tuple(event) for event in events if event.kind != "update"] == [
        (0, "play", 0.0, 1.0),
        (0, "replay", 1.0, 2.0),
        (1, "play", 1.0, 2.0),
        (0, "backward", 2.0, 4.0),
        (1, "backward", 2.0, 4.0),
        (0, "play", 4.0, 5.0),
        (0, "replay", 5.0, 6.0),
        (1, "play", 5.0, 6.0),
        (0, "backward", 6.0, 8.0),
        (1, "backward", 6.0, 8.0),
    ]


def test_nobody_does_two_things_at_once():
    for schedule in simulation.SCHEDULES:
        events = simulation.simulate(schedule, equal(4), 6, 3)
        for k in range(4):
            mine = [event for event in events if event.module == k]
            for event, following in zip(mine, mine[1:]):
                assert event.stop <= following.start


def test_unknown_schedule():
    with pytest.raises(ValueError, match="Received: schedule='magic'"):
        simulation.simulate("magic", equal(2), 3)


def test_a_link_sends_one_thing_after_the_other():
    """K=2, a second for a batch in each direction, hardly any computing."""
    modules = [
        ModuleTimes(1e-6, 1e-6, send_up=1.0), ModuleTimes(1e-6, 1e-6),
    ]
    modules[1].send_down = 1.0
    for num_microbatches in (1, 4, 16):
        seconds = simulation.seconds_per_step(
            "gpipe", modules, num_microbatches=num_microbatches
        )
        assert seconds == pytest.approx(2.0, abs=1e-3)
    # Gradients of inputs are sent as a whole, without those of weights.
    for schedule in ("1f1b", "zb-h1", "zb-h2"):
        seconds = simulation.seconds_per_step(
            schedule, modules, num_microbatches=1
        )
        assert seconds == pytest.approx(2.0, abs=1e-3)
    # Up and down at once, and a batch needs both within K = 2 iterations.
    found = simulation.seconds_per_step("features_replay", modules)
    assert found == pytest.approx(1.0, abs=1e-3)
    # A call ends when the last error gradient has arrived.
    for schedule in ("features_replay", "ddg"):
        for num_steps, seconds in ((1, 2.0), (4, 5 / 4)):
            assert simulation.seconds_per_step(
                schedule, modules, num_steps
            ) == pytest.approx(seconds, abs=1e-3)


@pytest.mark.parametrize("K", [2, 4, 8])
def test_micro_batches_of_features_replay_hide_links(K):
    """An iteration takes 4, or as long as a link needs, if that is longer."""
    for sending, latency, M, expected in (
        (0.0, 0.0, 4, 4.0), (2.0, 0.0, 2, 4.0), (4.0, 0.0, 4, 4.0),
        (8.0, 0.0, 4, 8.0), (1.0, 1.0, 2, 4.0), (0.0, 0.0, 1, 4.0),
    ):
        modules = [
            ModuleTimes(1.0, 2.0, 0.0, sending, sending, latency)
            for _ in range(K)
        ]
        modules[-1].send_up = modules[0].send_down = 0.0
        seconds = simulation.seconds_per_step(
            "features_replay", modules, num_microbatches=M
        )
        assert seconds == pytest.approx(expected), (sending, latency, M)


def test_latency_is_not_shared_by_micro_batches():
    modules = [
        ModuleTimes(1e-6, 1e-6, send_up=1.5, latency=0.5),
        ModuleTimes(1e-6, 1e-6, send_down=1.5, latency=0.5),
    ]
    for num_microbatches in (1, 4):
        # The last arrives half a second after it was sent.
        assert simulation.seconds_per_step(
            "gpipe", modules, num_microbatches=num_microbatches
        ) == pytest.approx(3.0, abs=1e-3)
