"""Look-ahead: against plain references, and what is not to be predicted."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

import fr_keras
from fr_keras.delays.look_ahead import LookAhead
from tests import agreement, comparison, reference, small_net
from tests.agreement import convolutional_net

layers = keras.layers


@keras.saving.register_keras_serializable("look_ahead_test")
class Policy(comparison.Ahead):
    """Factors that are exact in binary, so that float64 agrees."""


MOMENTUM = {
    "sgd": 0.0, "nesterov": 0.875, "adam": 0.875, "schedule": 0.875,
    "rising": 0.0,
}


def ahead(optimizer):
    policy, momentum = Policy(), MOMENTUM[optimizer]
    return {
        "play_ahead": lambda delay: policy.play(delay, momentum),
        "replay_ahead": lambda delay: policy.replay(delay, momentum),
        "rate_factor": policy.rate_factor,
    }


@pytest.mark.parametrize("num_modules, optimizer, steps", [
    (2, "sgd", 1), (3, "nesterov", 5), (4, "adam", 5), (4, "schedule", 5),
    (2, "rising", 5),
])
@pytest.mark.quick_cases("4-adam-5")
def test_agrees_with_reference(float64, num_modules, optimizer, steps):
    agreement.check(
        fr_keras.FeaturesReplay,
        functools.partial(reference.features_replay, **ahead(optimizer)),
        num_modules, convolutional_net, optimizer, steps,
        weight_prediction=True, delay_policy=Policy(),
    )


@pytest.mark.parametrize("num_modules, optimizer, steps", [
    (2, "sgd", 1), (4, "schedule", 5),
])
@pytest.mark.quick_cases("4-schedule-5")
def test_ddg_agrees_with_reference(float64, num_modules, optimizer, steps):
    agreement.check(
        fr_keras.DDG,
        functools.partial(
            reference.delayed_backprop,
            delays=[num_modules - k for k in range(1, num_modules + 1)],
            **ahead(optimizer),
        ),
        num_modules, convolutional_net, optimizer, steps,
        weight_prediction=True, delay_policy=Policy(),
    )


class ByDelay(Policy):
    """Momentum and clipping by delay, too."""

    def momentum(self, delay, momentum):
        return momentum * 2.0**-delay

    def clipping(self, delay):
        return 2.0**-delay


class ClippedSGD(reference.SGD):
    """Clips each element of the gradient."""

    def __init__(self, momentum, most):
        super().__init__(momentum, nesterov=False)
        self.most = most

    def __call__(self, key, w, g, rate):
        return super().__call__(key, w, np.clip(g, -self.most, self.most), rate)


def test_momentum_and_clipping_by_delay(float64, monkeypatch):
    policy = ByDelay()
    momentum = {s: policy.momentum(s, 0.5) for s in (0, 1, 2)}
    rules = [ClippedSGD(momentum[s], 2.0**-6 * 2.0**-s) for s in (2, 1, 0)]
    monkeypatch.setitem(agreement.OPTIMIZERS, "clipped", (
        lambda: keras.optimizers.SGD(0.125, 0.5, clipvalue=2**-6),
        functools.partial(next, iter(rules)), lambda t: 0.125,
    ))
    model = agreement.check(
        fr_keras.FeaturesReplay,
        functools.partial(
            reference.features_replay,
            play_ahead=lambda s: policy.play(s, momentum[s]),
            replay_ahead=lambda s: policy.replay(s, momentum[s]),
            rate_factor=policy.rate_factor,
        ),
        3, convolutional_net, "clipped", 5, weight_prediction=True,
        delay_policy=policy,
    )
    # It is all computed from what was given, however often.
    model.optimizer.clipvalue = 1.0
    model.optimizer.momentum = 0.25
    model.compile(model.optimizer, agreement.loss())
    model.fit(*agreement.data(model), verbose=0)
    assert [
        (o.clipvalue, o.momentum) for o in model.optimizer.per_module
    ] == [(0.25, 0.0625), (0.5, 0.125), (1.0, 0.25)]


def trained(weight_prediction, num_modules=3, **options):
    keras.utils.set_random_seed(0)
    net = small_net.net()
    net.get_layer(index=-2).rate = 0.0  # XLA draws other numbers.
    model = fr_keras.FeaturesReplay(
        net, num_modules, weight_prediction=weight_prediction
    )
    model.compile(keras.optimizers.Adam(0.01), "mse", **options)
    small_net.fit(model, epochs=2)
    return small_net.values(model)


def test_one_module_is_not_late():
    small_net.assert_same(trained(True, 1), trained(False, 1))


@pytest.mark.parametrize("options", [
    {"steps_per_execution": 4}, {"run_eagerly": True}, {"jit_compile": True},
])
@pytest.mark.quick_cases("options0")
def test_however_it_is_run(options):
    small_net.assert_same(
        trained(True, **options), trained(True), rtol=1e-4
    )
    assert any(small_net.differ(trained(True), trained(False)))


class Renormalized(layers.Layer):
    """A weight that is trained, and assigned in every call."""

    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], 5), name="kernel")

    def call(self, x):
        self.kernel.assign(self.kernel / keras.ops.norm(self.kernel))
        return keras.ops.matmul(x, self.kernel)


@pytest.mark.parametrize("algorithm", [fr_keras.FeaturesReplay, fr_keras.DDG])
def test_what_layers_assign_is_not_predicted(algorithm):
    net = keras.Sequential([
        keras.Input((6,)), Renormalized(), layers.Dense(4), layers.Dense(3)
    ])
    model = algorithm(net, 2, weight_prediction=True, copy=False)
    model.compile(keras.optimizers.SGD(0.0, momentum=0.9), "mse")
    before = net.get_weights()[1:]
    small_net.fit(model)
    # At learning rate 0 nothing but the assignment changes anything.
    kernel, *others = net.get_weights()
    assert np.linalg.norm(kernel) == pytest.approx(1, rel=1e-6)
    small_net.assert_same(others, before)
    assert not model.pipeline.modules[0].look_ahead.leave_out(
        [net.layers[0].kernel]
    )


def one_module(optimizer):
    """A module at work, of one weight w, that `update` moves."""
    net = keras.Sequential([keras.Input((1,)), layers.Dense(1, use_bias=False)])
    model = fr_keras.FeaturesReplay(
        [net, layers.Dense(1)], weight_prediction=True, delay_policy=Policy()
    )
    model.compile(optimizer, "mse")
    model.training.prepare(fr_keras.batches.batch_spec.BatchSpec(
        (tf.zeros((2, 1)), tf.zeros((2, 1)), None)
    ))
    return model.pipeline.modules[0]


def predicted(module, kind, rate=0.5):
    ((variable, weight),) = getattr(module.look_ahead, kind)(
        [tf.constant(rate)]
    )
    return (weight - variable.value).numpy().item()


def test_accumulation_counts_updates():
    """With M = 3, an error gradient one iteration late is 0 or 1 updates."""
    module = one_module(
        keras.optimizers.SGD(0.5, gradient_accumulation_steps=3)
    )
    found = []
    update = tf.function(module.update)
    for gradient in (1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 9.0, 9.0, 9.0):
        update([tf.constant([[gradient]])], [tf.constant(0.5)])
        found.append(predicted(module, "play"))
    # Updates by the means 2, 5 and 9: Δ is -1, -2.5 and -4.5. They are the
    # next iteration's after the second, the fifth and the eighth.
    one = Policy().play(1, 0.0)
    np.testing.assert_allclose(found, [
        0, 0, 0, 0, one * -1, 0, 0, one * -2.5, 0
    ], atol=1e-6)


def test_overflow_is_no_update():
    module = one_module(keras.optimizers.LossScaleOptimizer(
        keras.optimizers.SGD(0.5), initial_scale=2.0
    ))
    for gradient in (1.0, float("inf")):
        # Multiplied by the scale of then.
        module.update([
            tf.constant([[gradient]]) * module.loss_scale
        ], [tf.constant(0.5)])
    assert predicted(module, "play") == pytest.approx(
        Policy().play(1, 0.0) * -0.5
    )


@pytest.mark.parametrize("optimizer, factor", [
    # The velocity is what was gathered; all others scale with what comes.
    (lambda: keras.optimizers.SGD(0.5, momentum=0.5), 1),
    (lambda: keras.optimizers.Adam(0.5, beta_1=0.5), 0.1),
    (lambda: keras.optimizers.RMSprop(0.5, momentum=0.5), 0.1),
])
def test_learning_rates_to_come(optimizer, factor):
    module = one_module(optimizer())
    assert predicted(module, "play") == 0
    ((variable,),) = [module.trainable_variables]
    before = variable.numpy().item()
    module.update([tf.constant([[1.0]])], [tf.constant(0.5)])
    change = variable.numpy().item() - before
    expected = Policy().play(1, 0.5) * change
    assert predicted(module, "play") == pytest.approx(expected, rel=1e-4)
    assert predicted(module, "play", 0.05) == pytest.approx(
        factor * expected, rel=1e-4
    )


def test_learning_rate_of_0():
    """A warm-up that begins with it predicts nothing from it."""
    module = one_module(keras.optimizers.RMSprop(0.5))
    module.update([tf.constant([[1.0]])], [tf.constant(0.0)])
    assert predicted(module, "play") == 0


def loss_scaled_adam():
    return keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam())


@pytest.mark.parametrize("optimizer, copies", [
    ("sgd", 1), (lambda: keras.optimizers.SGD(momentum=0.9), 0), ("adam", 0),
    ("adamw", 0), (lambda: keras.optimizers.Adam(amsgrad=True), 1), ("muon", 1),
    ("nadam", 1), (loss_scaled_adam, 0),
])
@pytest.mark.quick_cases("sgd-1", "adam-0")
def test_what_is_kept(optimizer, copies):
    """Nothing, if the optimizer knows its last step; in checkpoints, else."""
    if callable(optimizer):
        optimizer = optimizer()
    model = small_net.compiled(weight_prediction=True, optimizer=optimizer)
    small_net.fit(model)
    kept = {id(variable) for variable in model.pipeline.state_variables()}
    for module in model.pipeline.modules:
        assert isinstance(module.look_ahead, LookAhead)
        variables = module.look_ahead.variables
        assert len(variables) == copies * len(module.trainable_variables)
        assert {id(variable) for variable in variables} <= kept


def test_factors_of_the_policy():
    """By hand: what momentum alone does to weights."""
    policy = fr_keras.DelayPolicy()
    assert policy.play(0, 0.9) == 0
    assert policy.play(2, 0.5) == 0.5 + 0.25 + 0.125
    assert policy.replay(0, 0.5) == policy.replay(3, 0.5) == 1.0
    assert policy.play(3, 0.0) == policy.replay(3, 0.0) == 0
    assert [policy.learning_rate(s) for s in (0, 1, 3)] == [1, 1 / 2, 1 / 4]
    assert [policy.decayed_learning_rate(s) for s in (0, 3)] == [1, 1 / 2]
    assert [policy.clipping(s) for s in (0, 3, 15)] == [1, 1 / 2, 1 / 4]
    # By its definition: the largest stable step of the recurrence.
    for delay, stable in ((1, 3.0), (3, 0.72), (7, 0.24)):
        factor = policy.play(delay, 0.9)
        assert is_stable(0.98 * stable, delay, 0.9, factor)
        assert not is_stable(1.02 * stable, delay, 0.9, factor)
    # The last module's gradient is ahead, and not late.
    assert is_stable(0.98 * 2.0, 0, 0.9, policy.replay(0, 0.9))
    assert not is_stable(1.02 * 2.0, 0, 0.9, policy.replay(0, 0.9))


def is_stable(step, delay, momentum, factor):
    """Whether w_{t+1} = (1+μ)w_t - μw_{t-1} - γλŵ_{t-s} goes to 0.

    Args:
        step: float, γλ / (1-μ).
    """
    w = [1.0] * (delay + 2)
    for _ in range(20_000):
        ahead = w[-1 - delay] + factor * (w[-1 - delay] - w[-2 - delay])
        w.append(
            (1 + momentum) * w[-1] - momentum * w[-2]
            - step * (1 - momentum) * ahead
        )
    return abs(w[-1]) < 1


@pytest.mark.parametrize("weight_prediction", [False, True])
def test_diagnostics_see_the_gradient_that_is_used(weight_prediction):
    model = small_net.compiled(
        weight_prediction=weight_prediction, run_eagerly=True
    )
    small_net.fit(model)
    expected = [model.pipeline.next_update(k)[0] for k in (0, 1)]
    used = {}
    for k, module in enumerate(model.pipeline.modules):
        module.observers.append(
            lambda module, gradients, k=k: used.update({k: gradients})
        )
    model.train_on_batch(*(a[:4] for a in small_net.data(seed=1)))
    for k in (0, 1):
        small_net.assert_same(used[k], expected[k], rtol=1e-6)


def test_save_and_load(tmp_path):
    model = fr_keras.FeaturesReplay(
        small_net.net(), 3, weight_prediction=True, delay_policy=Policy()
    )
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.weight_prediction
    assert isinstance(loaded.delay_policy, Policy)
    config = model.get_config()
    for name in ("weight_prediction", "delay_policy"):  # Of an older file.
        del config[name]
    assert not fr_keras.FeaturesReplay.from_config(config).weight_prediction


@pytest.mark.parametrize("arguments, message", [
    ({"weight_prediction": False, "delay_policy": Policy()},
     "requires `weight_prediction=True`. Received"),
    ({"weight_prediction": True, "delay_policy": 2}, "must be a fr_keras.Del"),
    ({"weight_prediction": 2}, "must be True or False. Received: .*=2"),
])
def test_nonsense_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        fr_keras.FeaturesReplay(small_net.net(), 3, **arguments)


@pytest.mark.parametrize("name, value, message", [
    ("play", float("nan"), "`play`.*must return a finite.*Received: nan"),
    ("replay", None, "`replay`.*Received: None"),
    ("learning_rate", -1.0, "`learning_rate`.* above 0. Received: -1.0"),
    ("learning_rate", 0.0, "`learning_rate`.* above 0. Received: 0.0"),
    ("momentum", 1.0, "`momentum`.* at least 0 and below 1. Received: 1.0"),
    ("clipping", 0, "`clipping`.* above 0. Received: 0 of Policy.clipping"),
])
def test_policies_that_say_nonsense(name, value, message):
    """Before anything is trained."""
    policy = Policy()
    setattr(policy, name, lambda *args: value)
    model = fr_keras.FeaturesReplay(
        small_net.net(), 3, weight_prediction=True, delay_policy=policy
    )
    model.compile(keras.optimizers.Adam(clipnorm=1.0), "mse")
    before = small_net.values(model)
    with pytest.raises(ValueError, match=message):
        small_net.fit(model)
    small_net.assert_same(small_net.values(model), before)


@pytest.mark.parametrize("exponent", [-1, float("nan"), float("inf"), "a"])
def test_bad_exponent(exponent):
    with pytest.raises(ValueError, match="finite number, at least 0. Received"):
        fr_keras.DelayPolicy(exponent)
