"""Update ratios, delays and queues against numbers computed by hand."""

import types

import keras
import numpy as np
import pytest

import fr_keras
from fr_keras import diagnostics
from fr_keras.callbacks.diagnostics import throughput
from tests.agreement import BATCH, data, dense_net, values


def compiled(algorithm="features_replay", optimizer=None, **options):
    model = fr_keras.ALGORITHMS[algorithm](dense_net(), 3)
    model.compile(
        optimizer or keras.optimizers.SGD(0.1),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        **options,
    )
    return model


def fit(model, callback, steps):
    x, y = data(dense_net())
    return model.fit(
        x[:steps * BATCH], y[:steps * BATCH], batch_size=BATCH, shuffle=False,
        verbose=0,
        callbacks=callback if isinstance(callback, list) else [callback],
    ).history


@pytest.mark.parametrize("run_eagerly", [False, True])
def test_update_ratio(run_eagerly):
    model = compiled(
        optimizer=keras.optimizers.SGD(0.1, momentum=0.9),
        run_eagerly=run_eagerly,
    )
    fit(model, keras.callbacks.Callback(), 3)  # Past the warm-up.
    weights = []

    class Weights(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            weights.append([values([m]) for m in self.model.modules])

        def on_train_batch_end(self, batch, logs=None):
            weights.append([values([m]) for m in self.model.modules])

    x, y = data(dense_net())
    logs = model.fit(
        x[:4 * BATCH], y[:4 * BATCH], batch_size=BATCH, shuffle=False,
        verbose=0, callbacks=[diagnostics.UpdateRatio(), Weights()],
    ).history

    def norm(arrays):
        return np.sqrt(sum((array**2).sum() for array in arrays))

    for k in range(3):
        ratios = [
            norm([b - a for a, b in zip(before[k], after[k])])
            / norm(before[k])
            for before, after in zip(weights, weights[1:])
        ]
        assert len(ratios) == 4
        assert logs[f"update_ratio/module_{k + 1}"] == [
            pytest.approx(np.mean(ratios), rel=1e-4)
        ]


def test_after_an_error():
    """Who looked at a training that failed looks at the next no more."""

    class Fails(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            raise ZeroDivisionError

    model = compiled()
    norm = diagnostics.GradientNorm()
    for callbacks in ([norm, Fails()], [diagnostics.UpdateRatio(), Fails()]):
        with pytest.raises(ZeroDivisionError):
            fit(model, callbacks, 1)
    # The same callback once more, and beside another.
    fit(model, [norm, diagnostics.UpdateRatio()], 4)
    assert [module.observers for module in model.pipeline.modules] == [[]] * 3


def test_resting_modules_have_no_updates():
    """In the first iteration, only the last module has an error gradient."""
    logs = fit(compiled(), diagnostics.UpdateRatio(), 1)
    assert logs["update_ratio/module_1"] == logs["update_ratio/module_2"] == [0]
    assert logs["update_ratio/module_3"][0] > 0


def test_delays_and_queues():
    """Inputs of 6, 9 and 9 numbers, K - k of them, and one δ of 9."""
    logs = fit(compiled(), diagnostics.ReplayQueues(), 4)
    number = BATCH * 4  # Bytes of a float32 for each example.
    for k, (delay, held) in enumerate(
        [(2, 2 * 6 + 9), (1, 9 + 9), (0, 0)], start=1
    ):
        assert logs[f"delay/module_{k}"] == [delay]
        assert logs[f"queue_bytes/module_{k}"] == [held * number]


def test_nothing_is_kept_by_methods_without_delay():
    logs = fit(compiled("backprop"), diagnostics.ReplayQueues(), 2)
    for k in (1, 2, 3):
        assert logs[f"delay/module_{k}"] == logs[f"queue_bytes/module_{k}"]
        assert logs[f"delay/module_{k}"] == [0]


def test_throughput():
    model = compiled(steps_per_execution=2)
    callback = diagnostics.Throughput(4 * BATCH)
    logs = fit(model, callback, 4)
    assert logs["iterations"] == [4]
    assert logs["examples_per_second"][0] == pytest.approx(
        BATCH / logs["seconds_per_step"][0]
    )


class SlowToTrace(keras.layers.Dense):
    """Tracing it takes 100 seconds on a clock that calls advance by 1."""

    def call(self, x):
        CLOCK.now += 100
        return super().call(x)


CLOCK = types.SimpleNamespace(now=0)


@pytest.mark.parametrize("batches, per_step, per_second", [
    # Calls of 2, 2 and 1 iterations, the first and last of which are traced.
    (5, 1 / 2, 5 * BATCH / (5 / 2)),
    # Nothing but tracing: better than no figure.
    (2, None, None),
])
def test_tracing_does_not_count(batches, per_step, per_second, monkeypatch):
    monkeypatch.setattr(
        throughput, "time",
        types.SimpleNamespace(perf_counter=lambda: CLOCK.now),
    )
    tick = keras.callbacks.LambdaCallback(
        on_train_batch_begin=lambda batch, logs: setattr(
            CLOCK, "now", CLOCK.now + 1
        )
    )
    model = fr_keras.Backprop(keras.Sequential([
        keras.Input((3,)), keras.layers.Dense(4), SlowToTrace(2)
    ]), 2)
    model.compile("sgd", "mse", steps_per_execution=2)
    logs = model.fit(
        np.ones([batches * BATCH, 3]), np.ones([batches * BATCH, 2]),
        batch_size=BATCH, epochs=2, verbose=0,
        callbacks=[tick, diagnostics.Throughput(batches * BATCH)],
    ).history
    first, second = logs["seconds_per_step"]
    if per_step is None:
        assert first >= 101 / 2
        assert second == 1 / 2
    else:
        assert first == per_step
        assert logs["examples_per_second"][0] == pytest.approx(per_second)
        assert second == pytest.approx(3 / 5)  # Three calls of five iterations.
