"""Every optimizer of Keras, one for each module."""

import keras
import numpy as np
import pytest

import fr_keras

optimizers = keras.optimizers
BATCH, STEPS = 4, 7


def net():
    return keras.Sequential(
        [keras.Input((6,))]
        + [keras.layers.Dense(5, activation="tanh") for _ in range(3)]
        + [keras.layers.Dense(3)]
    )


def data():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(BATCH * STEPS, 6)).astype("float32")
    return x, rng.normal(size=(BATCH * STEPS, 3)).astype("float32")


def schedule():
    return optimizers.schedules.ExponentialDecay(0.01, 2, 0.5)


MAKERS = {
    "adadelta": lambda: optimizers.Adadelta(0.1),
    "adafactor": lambda: optimizers.Adafactor(0.01),
    "adagrad": lambda: optimizers.Adagrad(0.01),
    "adam": lambda: optimizers.Adam(0.01, amsgrad=True),
    "adamax": lambda: optimizers.Adamax(0.01),
    "adamw": lambda: optimizers.AdamW(0.01, weight_decay=0.1),
    "ftrl": lambda: optimizers.Ftrl(0.01),
    "lamb": lambda: optimizers.Lamb(0.01),
    "lion": lambda: optimizers.Lion(0.01),
    "muon": lambda: optimizers.Muon(0.01),
    "nadam": lambda: optimizers.Nadam(0.01),
    "rmsprop": lambda: optimizers.RMSprop(0.01, centered=True, momentum=0.5),
    "schedule_free_adamw": lambda: optimizers.ScheduleFreeAdamW(0.01),
    "sgd": lambda: optimizers.SGD(0.01, momentum=0.9, nesterov=True),
    "schedule": lambda: optimizers.Adam(schedule()),
    "weight_decay": lambda: optimizers.SGD(schedule(), weight_decay=0.1),
    "clipnorm": lambda: optimizers.Adam(0.01, clipnorm=0.01),
    "global_clipnorm": lambda: optimizers.SGD(0.1, global_clipnorm=0.01),
    "clipvalue": lambda: optimizers.SGD(0.1, clipvalue=0.001),
    "use_ema": lambda: optimizers.SGD(
        0.1, use_ema=True, ema_momentum=0.5, ema_overwrite_frequency=3
    ),
    "accumulation": lambda: optimizers.Adam(
        schedule(), gradient_accumulation_steps=2
    ),
    "loss_scale_factor": lambda: optimizers.Adam(0.01, loss_scale_factor=8.0),
    "loss_scale": lambda: optimizers.LossScaleOptimizer(
        optimizers.Adam(schedule()), initial_scale=4.0, dynamic_growth_steps=2
    ),
    "multi": lambda: optimizers.MultiOptimizer(
        optimizers.OptimizerMap(
            optimizers.SGD(schedule()), {".*kernel": optimizers.Adam(0.01)}
        )
    ),
}


def test_all_of_keras_are_here():
    there = {
        name.lower() for name, value in vars(optimizers).items()
        if isinstance(value, type) and issubclass(value, optimizers.Optimizer)
    }
    wrappers = {"optimizer", "lossscaleoptimizer", "multioptimizer"}
    assert there - wrappers <= {name.replace("_", "") for name in MAKERS}


def global_step_optimizer(make):
    """A stock optimizer and how to give it γ_t of iteration t."""
    optimizer = make()

    def leaves(optimizer):
        if hasattr(optimizer, "inner_optimizer"):
            return leaves(optimizer.inner_optimizer)
        return getattr(optimizer, "optimizers", [optimizer])

    rates = [leaf._learning_rate for leaf in leaves(optimizer)]
    for leaf, rate in zip(leaves(optimizer), rates):
        if callable(rate):
            leaf._learning_rate = keras.Variable(0.0)

    def set_iteration(t):
        for leaf, rate in zip(leaves(optimizer), rates):
            if callable(rate):
                leaf._learning_rate.assign(rate(t))

    return optimizer, set_iteration


@pytest.mark.parametrize("name", list(MAKERS))
@pytest.mark.quick_cases("adam", "sgd", "muon", "multi", "use_ema")
def test_each_module_is_updated_by_a_stock_optimizer(name):
    """Of its own gradients, at the learning rate of the global iteration."""
    num_modules = 3
    model = fr_keras.FeaturesReplay(net(), num_modules)
    model.compile(MAKERS[name](), "mse", run_eagerly=True)
    gradients = [[] for _ in range(num_modules)]
    for k, module in enumerate(model.pipeline.modules):
        module.observers.append(
            lambda module, of_step, k=k: gradients[k].append(
                [np.array(g) for g in of_step]
            )
        )
    weights = [
        [keras.Variable(v.value, name=v.name) for v in m.trainable_variables]
        for m in model.modules
    ]
    for copies, module in zip(weights, model.modules):
        for copy, variable in zip(copies, module.trainable_variables):
            copy._path = variable.path  # Maps of optimizers go by it.
    x, y = data()
    for i in range(0, len(x), BATCH):
        model.train_on_batch(x[i : i + BATCH], y[i : i + BATCH])

    for k in range(num_modules):
        assert len(gradients[k]) == STEPS - (num_modules - 1 - k)
        optimizer, set_iteration = global_step_optimizer(MAKERS[name])
        optimizer.build(weights[k])
        scale = optimizer.loss_scale_factor or 1.0
        for t, of_step in enumerate(gradients[k], start=num_modules - 1 - k):
            set_iteration(t)
            dynamic = getattr(optimizer, "dynamic_scale", 1.0)
            optimizer.apply(
                [
                    # (An observer sees gradients as they are without scaling.)
                    keras.ops.convert_to_tensor(g * np.float32(scale * dynamic))
                    for g in of_step
                ],
                weights[k],
            )
        for ours, theirs in zip(
            model.modules[k].trainable_variables, weights[k]
        ):
            np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-7)


def in_graphs(name):
    fast = name in ("adam", "accumulation", "loss_scale", "multi")
    return pytest.param(name, False, marks=[pytest.mark.slow] * (not fast))


@pytest.mark.parametrize(
    "name, run_eagerly",
    [(name, True) for name in MAKERS] + [in_graphs(name) for name in MAKERS],
)
@pytest.mark.quick_cases(
    "adam-True", "muon-True", "schedule-True", "accumulation-False",
    "loss_scale-True", "multi-False",
)
def test_one_module_is_stock_keras(name, run_eagerly):
    """In graphs TensorFlow may reorder products; the operations are the same.
    """
    network = net()
    x, y = data()
    model = fr_keras.FeaturesReplay(network, 1)
    losses = []
    for each in (model, network):
        each.compile(
            MAKERS[name](), "mse", jit_compile=False, run_eagerly=run_eagerly
        )
        # (Keras' own train step would build ScheduleFreeAdamW in a graph, and
        # so begin its averages anew in every step.)
        each.optimizer.build(each.trainable_variables)
        history = each.fit(x, y, BATCH, epochs=2, shuffle=False, verbose=0)
        losses.append(history.history["loss"])
    rtol = 0 if run_eagerly else 1e-5
    np.testing.assert_allclose(*losses, rtol=rtol)
    for ours, theirs in zip(model.variables, network.variables):
        np.testing.assert_allclose(ours, theirs, rtol=rtol, atol=rtol / 100)


def test_learning_rate_reaches_every_module():
    model = fr_keras.FeaturesReplay(net(), 3)
    model.compile(optimizers.SGD(0.5), "mse", steps_per_execution=2)
    x, y = data()
    model.fit(x, y, BATCH, verbose=0)
    model.optimizer.learning_rate = 0.0
    before = [np.array(v) for v in model.trainable_variables]
    model.fit(x, y, BATCH, verbose=0)
    for variable, value in zip(model.trainable_variables, before):
        np.testing.assert_array_equal(variable, value)
    model.optimizer.learning_rate = 0.25
    model.fit(x, y, BATCH, verbose=0)
    for variable, value in zip(model.trainable_variables, before):
        assert (np.array(variable) != value).any()
    assert float(model.optimizer.learning_rate) == 0.25


def test_averages_of_a_module_that_was_never_updated():
    """`fit` ends by putting averages in place of weights."""
    model = fr_keras.FeaturesReplay(net(), 4)
    model.compile(optimizers.SGD(0.1, use_ema=True), "mse")
    before = [np.array(v) for v in model.modules[0].trainable_variables]
    x, y = data()
    model.fit(x[:BATCH], y[:BATCH], verbose=0)  # One step.
    for variable, value in zip(model.modules[0].trainable_variables, before):
        np.testing.assert_array_equal(variable, value)


def test_optimizer_of_the_user_stays_as_it_is():
    optimizer = optimizers.Adam(0.01)
    model = fr_keras.FeaturesReplay(net(), 2)
    model.compile(optimizer, "mse")
    model.fit(*data(), verbose=0)
    assert not optimizer.built
    for of_module in model.optimizer.per_module:
        assert type(of_module) is optimizers.Adam and of_module is not optimizer


def test_weight_decay_excludes_what_the_user_excluded():
    optimizer = optimizers.SGD(0.0, weight_decay=0.5)
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    optimizer.learning_rate = 1.0
    model = fr_keras.FeaturesReplay(net(), 2)
    for module in model.modules:
        for variable in module.trainable_variables:
            variable.assign(np.ones(variable.shape))
    model.compile(optimizer, "mse")
    x, y = data()
    # Outputs of 1, wanted: no gradient in the last module but decay.
    model.fit(x[:BATCH], np.array(model(x[:BATCH])), verbose=0)
    for variable in model.modules[1].trainable_variables:
        expected = 1.0 if "bias" in variable.path else 0.5
        np.testing.assert_allclose(variable, expected, atol=1e-6)


def test_model_optimizer_updates_nothing_itself():
    model = fr_keras.FeaturesReplay(net(), 2)
    model.compile("adam", "mse")
    with pytest.raises(RuntimeError, match="per_module"):
        model.optimizer.apply([])


def test_multi_optimizer_of_a_function():
    model = fr_keras.FeaturesReplay(net(), 2)
    with pytest.raises(ValueError, match="OptimizerMap.*Received: optimizer="):
        model.compile(
            optimizers.MultiOptimizer(lambda variable: optimizers.SGD()), "mse"
        )
