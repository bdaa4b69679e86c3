"""Iterations overlap across modules; seen on modules that only sleep.

Counted is who was at work while others were, not how long anything took.
"""

import pytest

import fr_keras
from fr_keras.profiling.module_times import ModuleTimes
from trainers.benchmarks import sleeping

K, STEPS = 4, 12
MODULES = [ModuleTimes(forward=0.02, backward=0.04)] * K


def events_of(algorithm, steps_per_execution):
    run = sleeping.prepare(algorithm, MODULES, steps_per_execution, STEPS)
    return sorted(run(), key=lambda event: event.start)


def by_module(events, module, kind):
    return [e for e in events if e.module == module and e.kind == kind]


def overlaps(a, b):
    return a.start < b.stop and b.start < a.stop


def plays(events):
    return by_module(events, 0, "play")


def test_backward_passes_run_at_the_same_time():
    events = events_of(fr_keras.FeaturesReplay, STEPS)
    # In each iteration of the middle of the call, the backward pass of every
    # module overlaps with a backward pass of its neighbour.
    for k in range(K - 1):
        mine = by_module(events, k, "backward")
        above = by_module(events, k + 1, "backward")
        assert len(mine) == len(above) == STEPS
        met = [a for a in mine if any(overlaps(a, b) for b in above)]
        assert len(met) >= STEPS - 2


def test_iterations_overlap():
    """Module 1 plays batch t + 1 before the last module is done with t."""
    events = events_of(fr_keras.FeaturesReplay, STEPS)
    finished = by_module(events, K - 1, "backward")
    ahead = sum(
        play.start < done.stop
        for play, done in zip(plays(events)[1:], finished)
    )
    assert ahead >= STEPS - 2


def test_one_iteration_per_call_does_not_overlap():
    """The test above can fail: a barrier at the end of each step shows."""
    events = events_of(fr_keras.FeaturesReplay, 1)
    finished = by_module(events, K - 1, "backward")
    assert not any(
        play.start < done.stop
        for play, done in zip(plays(events)[1:], finished)
    )


def test_play_goes_before_replay():
    """Others wait for a play, nobody waits for a replay."""
    events = events_of(fr_keras.FeaturesReplay, STEPS)
    for k in range(K - 1):
        work = [e.kind for e in events if e.module == k]
        assert work == ["play", "replay", "backward", "update"] * STEPS
    last = [e.kind for e in events if e.module == K - 1]
    assert last == ["play", "backward", "update"] * STEPS


def test_nothing_is_replayed_from_kept_activations():
    """DDG: one forward and one backward pass, side by side all the same."""
    events = events_of(fr_keras.DDG, STEPS)
    for k in range(K):
        work = sorted(e.kind for e in events if e.module == k)
        assert work == sorted(["play", "backward", "update"] * STEPS)
    finished = by_module(events, K - 1, "backward")
    ahead = sum(
        play.start < done.stop
        for play, done in zip(plays(events)[1:], finished)
    )
    assert ahead >= STEPS - 2


def test_predicted_gradients_are_not_waited_for():
    """DNI: module 1 works backward while the batch is still going up."""
    events = events_of(fr_keras.DNI, STEPS)
    arrived = by_module(events, K - 1, "play")
    early = sum(
        mine.start < last.start
        for mine, last in zip(by_module(events, 0, "backward"), arrived)
    )
    assert early >= STEPS - 1


@pytest.mark.parametrize("steps_per_execution", [1, 4])
def test_backpropagation_is_locked(steps_per_execution):
    events = [
        event for event in events_of(fr_keras.Backprop, steps_per_execution)
        if event.kind != "update"
    ]
    assert len(events) == 2 * K * STEPS
    for event, following in zip(events, events[1:]):
        assert not overlaps(event, following)
