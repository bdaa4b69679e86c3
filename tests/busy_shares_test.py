"""Who works when, on modules whose work is known."""

import keras
import numpy as np
import pytest

import fr_keras
from fr_keras import diagnostics
from fr_keras.callbacks.diagnostics.busy_shares import shares
from fr_keras.planning.simulation import Event
from fr_keras.profiling.module_times import ModuleTimes
from tests import small_net
from trainers.benchmarks.sleeping import SleepingLayer


def test_shares():
    assert shares([
        Event(0, "play", 1.0, 3.0),
        Event(0, "replay", 2.0, 5.0),  # At the same time.
        Event(0, "update", 3.0, 4.0),  # Within another.
        Event(0, "play", 9.0, 11.0),
        Event(1, "learn", 3.0, 4.0),
    ]) == {0: 0.6, 1: 0.1}


def test_of_sleeping_modules(tmp_path):
    """Locked by one iteration per call, K=2: play, then learn and replay.

    With forward τ and backward 2τ, module 1 works 4τ of 4τ, since its replay
    and backward pass take as long as play and backward pass of module 2.
    """
    times = ModuleTimes(0.05, 0.1)
    model = fr_keras.FeaturesReplay([
        keras.Sequential([keras.Input((1,)), SleepingLayer(k, times)])
        for k in range(2)
    ])
    model.compile("sgd", "mse")
    x = np.ones((6, 1))
    picture = tmp_path / "timeline.svg"
    logs = model.fit(
        x, x, batch_size=1, verbose=0,
        callbacks=[diagnostics.BusyShares(every=3, to_file=picture)],
    ).history
    assert logs["busy_share/module_1"] == [pytest.approx(1, abs=0.1)]
    assert logs["busy_share/module_2"] == [pytest.approx(0.75, abs=0.1)]
    for kind in ("play", "replay", "learn", "update"):
        assert f"<!-- {kind} -->" in picture.read_text()


@pytest.mark.parametrize("algorithm", fr_keras.ALGORITHMS.values())
@pytest.mark.parametrize("run_eagerly", [False, True])
@pytest.mark.quick_cases("False-FeaturesReplay", "True-GPipe")
def test_any_algorithm(algorithm, run_eagerly):
    model = small_net.compiled(
        algorithm=algorithm, steps_per_execution=2, run_eagerly=run_eagerly
    )
    logs = small_net.fit(
        model, epochs=2, callbacks=[diagnostics.BusyShares(every=4)]
    ).history
    for k in (1, 2, 3):
        share = logs[f"busy_share/module_{k}"][-1]
        if algorithm is fr_keras.Backprop and not run_eagerly:
            assert np.isnan(share)
        else:
            assert 0 < share <= 1
    # The call without the clock is the one from before.
    assert model.recorders == ()


def test_nonsense():
    with pytest.raises(ValueError, match="Received: every=0"):
        diagnostics.BusyShares(every=0)
