"""The diagnostics that probe, against plain formulas in float64."""

import keras
import numpy as np
import pytest

import fr_keras
from fr_keras import diagnostics
from fr_keras.callbacks.diagnostics.probe import Measured, ModuleProbe
from tests import agreement, diagnostics_reference, small_net
from tests.agreement import BATCH, convolutional_net, data, dense_net
from tests.reference import PlainModule

RATE, STEPS = 0.125, 14
PROBES = (
    diagnostics.SufficientDirection,
    diagnostics.DeltaResidual,
    diagnostics.FeatureDrift,
)


class Collect(keras.callbacks.Callback):
    """Collects what other callbacks log after each call."""

    def __init__(self, *callbacks):
        super().__init__()
        self.callbacks = callbacks
        self.found = {}
        for callback in callbacks:
            log = callback.log
            callback.log = lambda values, step, log=log: (
                log(values, step),
                self.found.setdefault(step, {}).update(values),
            )


def batches_of(net):
    x, y = data(net)
    x, y = (np.tile(a, [3] + [1] * (a.ndim - 1)) for a in (x, y))
    return [
        (x[i:i + BATCH], y[i:i + BATCH])
        for i in range(0, STEPS * BATCH, BATCH)
    ]


def compiled(net, num_modules, rate=RATE, algorithm="features_replay", **how):
    make = fr_keras.ALGORITHMS[algorithm]
    if algorithm == "features_replay":
        make = agreement.paper
    model = make(net, num_modules)
    model.compile(
        keras.optimizers.SGD(rate),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        **how,
    )
    return model


def fit(model, batches, *callbacks):
    """Trains; returns what the callbacks logged, a dict from steps to dicts."""
    collect = Collect(*(c for c in callbacks if hasattr(c, "log")))
    x, y = (np.concatenate(parts) for parts in zip(*batches))
    model.fit(
        x, y, batch_size=BATCH, shuffle=False, verbose=0,
        callbacks=[*callbacks, collect],
    )
    return collect.found


@pytest.mark.parametrize(
    "net, steps_per_execution, how",
    [
        (dense_net, 1, {}),
        (dense_net, 1, {"run_eagerly": True}),
        (dense_net, 3, {}),
        (convolutional_net, 1, {}),
        (convolutional_net, 5, {}),
    ],
)
@pytest.mark.quick_cases("dense_net-3-how2")
def test_agrees_with_formulas(float64, net, steps_per_execution, how):
    net = net()
    batches = batches_of(net)
    model = compiled(
        net, 3, steps_per_execution=steps_per_execution, **how
    )
    plain = [PlainModule(module.layers) for module in model.modules]
    expected = diagnostics_reference.features_replay(
        plain, RATE, batches, batches[:2]
    )
    found = fit(
        model, batches, *(probe(every=1) for probe in PROBES[1:]),
        diagnostics.SufficientDirection(every=1, window=1),
    )
    # Every call that ends with iteration t-1 measures at w^t, one of the
    # modules that are late, in turn. (There is no iteration STEPS to compare.)
    seen = set()
    for step, values_ in found.items():
        if step >= STEPS:
            continue
        numbers = expected[step - 2]
        late = [
            k for k in (0, 1) if f"residual/module_{k + 1}" in values_
        ]
        assert len(late) == 1
        (k,) = late
        seen.add(k)
        name = f"module_{k + 1}"
        assert_close(
            values_[f"sigma/{name}"], numbers["inner"][k] / numbers["true"][k]
        )
        assert values_["sigma/module_3"] == 1
        assert_close(values_[f"residual/{name}"], numbers["residual"][k])
        assert_close(values_["probed_loss"], numbers["loss_of"][k])
        assert_close(
            values_[f"relative_residual/{name}"],
            numbers["residual"][k] / numbers["true_delta"][k],
        )
        assert_close(values_[f"feature_drift/{name}"], numbers["drift"][k])
    assert seen == {0, 1}
    for module, expected_module in zip(model.modules, plain):
        # Nothing was changed by looking.
        for a, b in zip(
            module.trainable_variables, sum(expected_module.weights, [])
        ):
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


def assert_close(actual, expected):
    assert actual == pytest.approx(expected, rel=1e-8)


def test_window_and_total(float64):
    """Medians over the last three probes of each module."""
    net = dense_net()
    batches = batches_of(net)
    model = compiled(net, 3)
    plain = [PlainModule(module.layers) for module in model.modules]
    expected = diagnostics_reference.features_replay(
        plain, RATE, batches, batches[:1]
    )
    sigma = diagnostics.SufficientDirection(every=1, window=3)
    residual = diagnostics.DeltaResidual(every=1)
    found = fit(model, batches, sigma, residual)

    ratios, norms, latest = ([], [], []), ([], [], []), {}
    for step in range(2, STEPS):
        numbers, k = expected[step - 2], (step - 2) % 2
        true = numbers["true"][k]
        ratios[k].append(numbers["inner"][k] / true)
        norms[k].append(true)
        latest[k] = numbers["residual"][k]
        # Of the last module: the gradient of the batch that k replays.
        ratios[2].append(1)
        norms[2].append(numbers["last_true"][k])
        if step > 2:
            of_ratios, of_norms = (
                [np.median(values[-3:]) for values in of_all]
                for of_all in (ratios, norms)
            )
            assert_close(
                found[step]["sigma/total"],
                np.average(of_ratios, weights=of_norms),
            )
            assert_close(
                found[step]["objective"],
                sum(latest.values()) + numbers["loss_of"][k],
            )


def test_one_huge_gradient_does_not_hide_the_others():
    """As that of the start: σ is that of the probes since."""
    sigma = diagnostics.SufficientDirection(every=1)
    sigma.set_model(compiled(dense_net(), 2))
    for inner, true in ((2e3, 1e5), (0.9, 1.0), (1.8, 2.0)):
        found = sigma.values(Measured(0, 1.0, {
            0: ModuleProbe(inner, true, 1.0), 1: ModuleProbe(3.0, 3.0, 3.0)
        }))
    assert found["sigma/module_1"] == pytest.approx(0.9)
    assert found["sigma/total"] == pytest.approx((0.9 * 2 + 3) / (2 + 3))


@pytest.mark.parametrize("algorithm", ["features_replay", "ddg"])
def test_without_learning_nothing_is_stale(algorithm):
    """σ = 1 and no residual and drift in any module, dropout included."""
    net = small_net.net()
    model = compiled(net, 3, rate=0.0, algorithm=algorithm)
    model.compile(keras.optimizers.SGD(0.0), "mse", steps_per_execution=2)
    x, y = small_net.data(8)
    callbacks = [probe(every=2) for probe in PROBES]
    logs = small_net.fit(model, x, y, callbacks=callbacks).history
    for k in (1, 2, 3):
        assert logs[f"sigma/module_{k}"] == [pytest.approx(1, rel=1e-5)]
        assert logs[f"residual/module_{k}"] == [pytest.approx(0, abs=1e-12)]
        if algorithm == "features_replay":
            assert logs[f"feature_drift/module_{k}"] == [
                pytest.approx(0, abs=1e-6)
            ]
    assert logs["sigma/total"] == [pytest.approx(1, rel=1e-5)]


@pytest.mark.parametrize(
    "algorithm, num_modules",
    [("features_replay", 1), ("ddg", 1), ("backprop", 3), ("gpipe", 2)],
)
def test_without_delay_nothing_is_stale(algorithm, num_modules):
    net = dense_net()
    model = compiled(net, num_modules, algorithm=algorithm)
    x, y = (np.concatenate(parts) for parts in zip(*batches_of(net)))
    logs = model.fit(
        x, y, batch_size=BATCH, verbose=0,
        callbacks=[probe(every=3) for probe in PROBES],
    ).history
    for k in range(1, num_modules + 1):
        assert logs[f"sigma/module_{k}"] == [1]
        assert logs[f"residual/module_{k}"] == [0]
        assert logs[f"relative_residual/module_{k}"] == [0]
        assert logs[f"feature_drift/module_{k}"] == [0]
    assert logs["sigma/total"] == [1]


def test_exact_sigma(float64):
    """With the gradient over a whole set, in mini-batches of any size."""
    net = dense_net()
    batches = batches_of(net)
    measured = [batches[0], batches[3], tuple(a[:3] for a in batches[5])]
    model = compiled(net, 3)
    plain = [PlainModule(module.layers) for module in model.modules]
    expected = diagnostics_reference.features_replay(
        plain, RATE, batches, measured
    )
    found = fit(
        model, batches, diagnostics.SufficientDirection(
            every=1, window=1, dataset=measured
        ),
    )
    assert sorted(found) == list(range(2, STEPS + 1))
    for step in range(2, STEPS):
        numbers = expected[step - 2]
        for k in (0, 1):
            assert_close(
                found[step][f"sigma/module_{k + 1}"],
                numbers["exact"][k] / numbers["exact_true"][k],
            )


def test_bound(float64):
    """Both sides of the theorem, from the formulas."""
    net = dense_net()
    batches = batches_of(net)
    model = compiled(net, 2)
    plain = [PlainModule(module.layers) for module in model.modules]
    expected = diagnostics_reference.features_replay(
        plain, RATE, batches, batches[:9]
    )
    found = fit(
        model, batches, diagnostics.ConvergenceBound(
            batches[:9], minimum=0.5, every=3
        ),
    )
    steps = [3, 6, 9, 12]
    assert sorted(found) == steps
    numbers = [expected[step - 1] for step in steps]
    norms = [n["gradient"] @ n["gradient"] for n in numbers]
    for i, step in enumerate(steps):
        values_ = found[step]
        assert_close(values_["bound/loss"], numbers[i]["loss"])
        lipschitz = max([0] + [
            np.linalg.norm(b["gradient"] - a["gradient"])
            / np.linalg.norm(b["weights"] - a["weights"])
            for a, b in zip(numbers[:i], numbers[1:i + 1])
        ])
        assert_close(values_["bound/lipschitz"], lipschitz)
        if not i:
            continue
        rates = 3 * i * RATE
        assert_close(
            values_["bound/left"], sum(3 * RATE * n for n in norms[1:i + 1])
            / rates,
        )
        sigma, moment = values_["bound/sigma"], values_["bound/second_moment"]
        assert_close(
            values_["bound/right"],
            (numbers[0]["loss"] - 0.5) / (sigma * rates)
            + lipschitz * moment / (2 * sigma) * (3 * i * RATE**2) / rates,
        )


def test_of_bound_moment_and_sigma(float64):
    """With one module, g is the gradient of the last mini-batch."""
    net = dense_net()
    batches = batches_of(net)[:5]
    model = compiled(net, 1, rate=0.0)
    plain = [PlainModule(model.modules[0].layers)]
    (loss, full), used = (
        diagnostics_reference.full_gradient(plain, batches[:2]),
        [
            diagnostics_reference.full_gradient(plain, [batch])[1][0]
            for batch in batches
        ],
    )
    found = fit(
        model, batches, diagnostics.ConvergenceBound(batches[:2], every=1)
    )
    dot = diagnostics_reference.dot
    for step in range(1, 6):
        assert_close(
            found[step]["bound/second_moment"],
            max(dot(g, g) for g in used[:step]),
        )
        assert_close(
            found[step]["bound/sigma"],
            sum(dot(full[0], g) for g in used[:step])
            / (step * dot(full[0], full[0])),
        )
        assert_close(found[step]["bound/loss"], loss)


def test_embeddings_and_loss_scale():
    """Gradients that are slices, and that are multiplied by a scale."""

    def logs(optimizer):
        keras.utils.set_random_seed(2)
        model = fr_keras.FeaturesReplay(
            keras.Sequential([
                keras.Input((4,), dtype="int32"),
                keras.layers.Embedding(9, 5),
                keras.layers.Flatten(),
                keras.layers.Dense(5, activation="tanh"),
                keras.layers.Dense(1),
            ]), 3,
        )
        model.compile(optimizer, "mse")
        rng = np.random.default_rng(0)
        return model.fit(
            rng.integers(0, 9, (32, 4)), rng.normal(size=(32, 1)),
            batch_size=4, shuffle=False, verbose=0,
            callbacks=[probe(every=1) for probe in PROBES],
        ).history

    expected = logs(keras.optimizers.SGD(0.1))
    scaled = logs(
        keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1), 1024.0)
    )
    assert expected["sigma/module_1"][0] not in (0, 1)
    for name, values_ in expected.items():
        assert scaled[name] == pytest.approx(values_, rel=1e-4), name


def test_off_costs_nothing():
    net = dense_net()
    model = compiled(net, 3)
    batches = batches_of(net)
    fit(model, batches)
    trace = model.training._trace
    before = trace.cache_info().currsize
    fit(model, batches, diagnostics.SufficientDirection(every=4))
    assert model.recorders == () and model.training._trace is trace
    # A variant of the call that shows what it plays; the first is used again.
    assert before < trace.cache_info().currsize
    now = trace.cache_info().misses
    fit(model, batches)
    assert trace.cache_info().misses == now


def test_after_an_error():
    """Who looked at a training that failed looks at the next no more."""

    class Fails(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            raise ZeroDivisionError

    net = dense_net()
    model = compiled(net, 3)
    batches = batches_of(net)
    with pytest.raises(ZeroDivisionError):
        fit(model, batches, diagnostics.FeatureDrift(2),
            diagnostics.BusyShares(3), Fails())
    found = fit(model, batches, diagnostics.FeatureDrift(4))
    assert model.recorders == ()
    assert sorted(found) == [4, 8, 12]


def test_what_cannot_be_probed():
    with pytest.raises(ValueError, match="Received: every=0"):
        diagnostics.DeltaResidual(every=0)
    with pytest.raises(ValueError, match="Received: window=0"):
        diagnostics.SufficientDirection(window=0)
    net = dense_net()
    batches = batches_of(net)
    with pytest.raises(ValueError, match="Received: DNI"):
        fit(compiled(net, 2, algorithm="dni"), batches,
            diagnostics.FeatureDrift())
    model = compiled(net, 2)
    with pytest.raises(ValueError, match="Received: every=3"):
        fit(model, batches, diagnostics.FeatureDrift(2),
            diagnostics.DeltaResidual(3))
    with pytest.raises(ValueError, match="Received: an empty dataset"):
        fit(compiled(net, 2), batches,
            diagnostics.ConvergenceBound([], every=2))
