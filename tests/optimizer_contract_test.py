"""What an optimizer does after `compile` here, beside stock Keras."""

import inspect

import keras
import numpy as np
import pytest
import tensorflow as tf

import fr_keras

layers, optimizers = keras.layers, keras.optimizers
BATCH, STEPS = 4, 4
DEVICES = ["CPU:1", "CPU:2"]


def net():
    """Muon knows embeddings by their names."""
    return keras.Sequential(
        [
            keras.Input((4,)),
            layers.Dense(5, activation="tanh", name="embedding"),
            layers.Dense(5, activation="tanh", name="first"),
            layers.Dense(5, activation="tanh", name="second"),
            layers.Dense(3, name="head"),
        ],
        name="net",
    )


def data():
    rng = np.random.default_rng(0)
    return (
        rng.normal(size=(BATCH * STEPS, 4)).astype("float32"),
        rng.normal(size=(BATCH * STEPS, 3)).astype("float32"),
    )


def fit(model, **options):
    x, y = data()
    options = {"batch_size": BATCH, "shuffle": False, "verbose": 0} | options
    return model.fit(x, y, **options)


def pair(num_modules, make=net):
    """The same network twice: in modules on other devices, and plain."""
    network = make()
    return (
        fr_keras.Backprop(
            network, num_modules, DEVICES[:num_modules],
            costs=dict.fromkeys([layer.name for layer in network.layers], 1.0),
        ),
        network,
    )


def assert_alike(ours, theirs, rtol=1e-5):
    """Weights go by their paths."""
    theirs = {v.path: v for v in theirs.trainable_variables}
    assert {v.path for v in ours.trainable_variables} == set(theirs)
    for variable in ours.trainable_variables:
        np.testing.assert_allclose(
            variable, theirs[variable.path], rtol=rtol, atol=rtol / 100,
            err_msg=variable.path,
        )


def excluding(make, layer="first", variable="head/bias"):
    """By name, one that is the name of a layer, and itself."""

    def with_network(network):
        optimizer = make()
        optimizer.exclude_from_weight_decay(
            [v for v in network.variables if v.path == f"net/{variable}"],
            [layer],
        )
        return optimizer

    return with_network


class Shifted(optimizers.SGD):
    """What it was made with is not part of its configuration."""

    def __init__(self, learning_rate=0.1, shift=0.0, **kwargs):
        super().__init__(learning_rate, **kwargs)
        self.shift = shift

    def update_step(self, gradient, variable, learning_rate):
        super().update_step(gradient + self.shift, variable, learning_rate)


CLASSES = {
    name: value for name, value in vars(optimizers).items()
    if isinstance(value, type) and issubclass(value, optimizers.Optimizer)
    and value not in (
        optimizers.Optimizer,
        # These are made of others: see OPTIONS.
        optimizers.LossScaleOptimizer, optimizers.MultiOptimizer,
    )
}
OPTIONS = {
    # `adam_weight_decay` is another argument than `weight_decay`.
    "Muon, layers by name": lambda: optimizers.Muon(
        0.01, weight_decay=0.1, exclude_layers=["second"]
    ),
    "Muon, tables too": lambda: optimizers.Muon(
        0.01, exclude_embeddings=False, adam_weight_decay=0.1
    ),
    "averages": lambda: optimizers.Adam(
        0.01, use_ema=True, ema_momentum=0.5, ema_overwrite_frequency=3
    ),
    "averages at the end": lambda: optimizers.SGD(
        0.1, use_ema=True, ema_momentum=0.5
    ),
    "clipvalue": lambda: optimizers.SGD(0.1, clipvalue=0.01),
    "clipnorm": lambda: optimizers.SGD(0.1, clipnorm=0.01),
    "accumulation": lambda: optimizers.AdamW(
        0.01, weight_decay=0.1, gradient_accumulation_steps=2
    ),
    "schedule": lambda: optimizers.SGD(
        optimizers.schedules.ExponentialDecay(0.1, 2, 0.5), weight_decay=0.1
    ),
    "loss scale": lambda: optimizers.LossScaleOptimizer(
        optimizers.AdamW(0.01, weight_decay=0.1), initial_scale=4.0,
        dynamic_growth_steps=2,
    ),
    "loss_scale_factor": lambda: optimizers.Adam(0.01, loss_scale_factor=8.0),
    "several": lambda: optimizers.MultiOptimizer(
        optimizers.OptimizerMap(
            optimizers.SGD(0.1),
            {
                "net/second/.*": optimizers.Adam(0.01, use_ema=True),
                "net/head/kernel": optimizers.RMSprop(0.02),
            },
        )
    ),
    "several with a loss scale": lambda: optimizers.LossScaleOptimizer(
        optimizers.MultiOptimizer(
            optimizers.OptimizerMap(
                optimizers.SGD(0.1), {"net/first/.*": optimizers.Adam(0.01)}
            )
        ),
        initial_scale=4.0,
    ),
    "subclass": lambda: Shifted(shift=0.1),
}


def decaying(cls):
    def make():
        has_decay = "weight_decay" in inspect.signature(cls).parameters
        return cls(
            learning_rate=0.01, **({"weight_decay": 0.5} if has_decay else {})
        )

    return make


CASES = {name: excluding(decaying(cls)) for name, cls in CLASSES.items()} | {
    name: lambda network, make=make: make() for name, make in OPTIONS.items()
}


@pytest.mark.parametrize(
    "num_modules", [pytest.param(1, marks=pytest.mark.slow), 2]
)
@pytest.mark.parametrize("name", list(CASES))
def test_modules_elsewhere_are_updated_as_by_keras(name, num_modules):
    models = pair(num_modules)
    for model in models:
        # What is excluded is a variable of the plain network, of both.
        model.compile(CASES[name](models[1]), "mse", run_eagerly=True)
        model.optimizer.build(model.trainable_variables)
        fit(model)
    assert_alike(*models)


def test_weight_decay_of_what_is_excluded_by_hand():
    """At a learning rate of 1 and without gradients, decay is all."""
    network = net()
    decay = excluding(lambda: optimizers.SGD(1.0, weight_decay=0.5))(network)
    model = fr_keras.FeaturesReplay(network, 2, DEVICES)
    for variable in model.trainable_variables:
        variable.assign(tf.ones(variable.shape))
    before = {v.path: np.array(v) for v in model.trainable_variables}
    model.compile(decay, "mse")
    x = data()[0][:BATCH]
    # Twice, since the first module waits for its first error gradient.
    model.fit(x, np.array(model(x)), epochs=1, verbose=0)
    for variable in model.modules[1].trainable_variables:
        kept = variable.path in ("net/head/bias",) or "first" in variable.path
        np.testing.assert_allclose(
            variable, before[variable.path] * (1.0 if kept else 0.5),
            atol=1e-6, err_msg=variable.path,
        )


def test_names_survive_a_move():
    """And so do the keys by which an optimizer knows a variable."""
    layer = layers.Dense(3, name="dense")
    network = keras.Sequential([keras.Input((4,)), layer], name="net")
    optimizer = optimizers.SGD(1.0, weight_decay=0.5)
    optimizer.exclude_from_weight_decay([layer.bias], ["net/dense/kernel"])
    names = [v.value.name for v in network.variables]
    with tf.name_scope("elsewhere"):
        fr_keras.engine.placement.move([network], fr_keras.FeaturesReplay(
            [layers.Dense(1)], devices=["CPU:3"]
        ).devices[0])
    assert [v.value.name for v in network.variables] == names
    optimizer.build(network.trainable_variables)
    before = [np.array(v) for v in network.variables]
    optimizer.apply([tf.zeros_like(v) for v in network.trainable_variables])
    for variable, value in zip(network.variables, before):
        np.testing.assert_array_equal(variable, value)


# Compiling again.


@pytest.mark.parametrize("own_facade", [True, False])
@pytest.mark.parametrize(
    "name", ["averages", "schedule", "several with a loss scale", "subclass"]
)
def test_an_optimizer_that_is_compiled_again_goes_on(name, own_facade):
    models = pair(2)
    for model in models:
        optimizer = OPTIONS[name]()
        for _ in range(2):
            model.compile(optimizer, "mse", run_eagerly=True)
            model.optimizer.build(model.trainable_variables)
            fit(model)
            if own_facade:
                optimizer = model.optimizer
    assert_alike(*models)
    assert int(models[0].optimizer.iterations) == 2 * STEPS


def test_another_optimizer_is_fresh():
    model, _ = pair(2)
    for _ in range(2):
        model.compile(optimizers.Adam(0.01), "mse", run_eagerly=True)
        fit(model)
        assert int(model.optimizer.iterations) == STEPS
        for optimizer in model.optimizer.per_module:
            assert int(optimizer.iterations) == STEPS


def test_mixed_precision_compiled_again():
    """Keras wraps the same optimizer once more: its scale begins anew."""
    models = pair(2)
    for model in models:
        model.dtype_policy = "mixed_float16"
        optimizer = optimizers.Adam(0.01)
        for _ in range(2):
            model.compile(optimizer, "mse", run_eagerly=True)
            model.optimizer.build(model.trainable_variables)
            fit(model)
    assert_alike(*models)
    for copy in models[0].optimizer.per_module:
        assert int(copy.iterations) == 2 * STEPS
        assert int(copy.step_counter) == STEPS


def test_optimizer_of_another_model_is_refused():
    """By Keras too, which does not know the variables."""
    plain, optimizer = net(), optimizers.Adam()
    plain.compile(optimizer, "mse", run_eagerly=True)
    fit(plain)
    model, _ = pair(2)
    with pytest.raises(ValueError, match="another.*Received: optimizer=<"):
        model.compile(optimizer, "mse")
    model.compile("adam", "mse", run_eagerly=True)
    fit(model)
    other, _ = pair(2)
    with pytest.raises(ValueError, match="another.*Received: optimizer=<"):
        other.compile(model.optimizer, "mse")


# What is set later, and what is seen.


SET_LATER = {
    "weight_decay": 0.5, "momentum": 0.9, "nesterov": True, "clipvalue": 0.01,
    "learning_rate": 0.5,
}


def set_later(optimizer, names):
    for name in names:
        setattr(optimizer, name, SET_LATER[name])
        assert float(getattr(optimizer, name)) == SET_LATER[name]


@pytest.mark.parametrize("name", list(SET_LATER))
def test_hyperparameters_set_after_compile(name):
    """And after `fit`, which shows at once where nothing is traced."""
    models = pair(2)
    for model in models:
        model.compile(optimizers.SGD(0.1, momentum=0.5), "mse",
                      run_eagerly=True)
        set_later(model.optimizer, [name])
        fit(model)
        set_later(model.optimizer, SET_LATER)
        fit(model)
    assert_alike(*models)


@pytest.mark.parametrize("of_user", [True, False])
def test_hyperparameters_set_before_graphs_are_traced(of_user):
    models = pair(2)
    for model in models:
        optimizer = optimizers.SGD(0.1, momentum=0.5)
        model.compile(optimizer, "mse", jit_compile=False)
        fit(model)
        model.compile(optimizer, "mse", jit_compile=False)
        set_later(optimizer if of_user else model.optimizer, SET_LATER)
        fit(model)
    assert_alike(*models)


def test_exclusions_set_after_compile():
    models = pair(2)
    for model in models:
        model.compile(
            optimizers.AdamW(0.01, weight_decay=0.5), "mse", run_eagerly=True
        )
        model.optimizer.exclude_from_weight_decay(var_names=["second"])
        fit(model)
    assert_alike(*models)


def test_unknown_hyperparameters_are_refused():
    model, _ = pair(2)
    model.compile(optimizers.SGD(), "mse")
    with pytest.raises(AttributeError, match="`beta_1`.*Received: beta_1=0.5"):
        model.optimizer.beta_1 = 0.5
    model.compile(optimizers.LossScaleOptimizer(optimizers.SGD()), "mse")
    with pytest.raises(AttributeError, match="inner_optimizer.weight_decay"):
        model.optimizer.weight_decay = 0.5
    model.optimizer.inner_optimizer.weight_decay = 0.5
    fit(model)
    for optimizer in model.optimizer.per_module:
        assert optimizer.inner_optimizer.weight_decay == 0.5


def test_model_optimizer_is_like_the_one_given():
    model, _ = pair(2)
    optimizer = optimizers.Adam(0.25, beta_1=0.5, weight_decay=0.125)
    model.compile(optimizer, "mse", run_eagerly=True)
    fit(model)
    ours = model.optimizer
    assert isinstance(ours, optimizers.Adam)
    assert not isinstance(ours, optimizers.SGD)
    assert (ours.beta_1, ours.weight_decay) == (0.5, 0.125)
    assert optimizers.serialize(ours) == optimizers.serialize(optimizer)
    assert int(optimizer.iterations) == int(ours.iterations) == STEPS
    assert float(ours.learning_rate) == 0.25


@pytest.mark.parametrize(
    "name", ["several", "several with a loss scale", "loss scale"]
)
def test_iterations_are_those_of_keras(name):
    models = pair(2)
    iterations = []
    for model in models:
        model.compile(OPTIONS[name](), "mse", run_eagerly=True)
        fit(model)
        iterations.append(int(model.optimizer.iterations))
    assert iterations == [STEPS, STEPS]


def test_state_tree():
    model, _ = pair(2)
    model.compile(optimizers.Adam(name="own"), "mse", run_eagerly=True)
    fit(model)
    tree = model.get_state_tree("numpy_array")["optimizer_variables"]
    assert set(tree) == {"own", "own_module_1", "own_module_2"}
    assert tree["own"]["iteration"] == STEPS
    tree["own_module_2"]["iteration"] += 1
    model.set_state_tree({"optimizer_variables": tree})
    assert int(model.optimizer.per_module[1].iterations) == STEPS + 1


def test_weights_of_the_optimizer():
    model, _ = pair(2)
    model.compile(optimizers.Adam(), "mse", run_eagerly=True)
    with pytest.raises(ValueError, match="Received: 2 weights"):
        model.optimizer.set_weights([0, 0])
    fit(model)
    weights = [np.array(v) + 1 for v in model.optimizer.variables]
    model.optimizer.set_weights(weights)
    for variable, value in zip(model.optimizer.variables, weights):
        np.testing.assert_array_equal(variable, value)


def test_averages_can_be_swapped_with_any_optimizer():
    """Evaluated are averages; the weights come back."""
    for name in ("averages", "several"):
        models = pair(2)
        losses = []
        for model in models:
            model.compile(OPTIONS[name](), "mse", run_eagerly=True)
            model.optimizer.build(model.trainable_variables)
            history = fit(
                model, validation_data=data(),
                callbacks=[keras.callbacks.SwapEMAWeights()],
            )
            losses.append(history.history["val_loss"])
        np.testing.assert_allclose(*losses, rtol=1e-5)
        assert_alike(*models)


def test_optimizer_that_cannot_be_copied():
    class Unknown(optimizers.SGD):
        def __init__(self, momentum_of_ours):
            super().__init__(0.1, momentum_of_ours)

    model, _ = pair(2)
    model.compile(Unknown(0.5), "mse")
    with pytest.raises(ValueError, match="`get_config`.*Received: optimizer="):
        fit(model)


def test_checkpoint_of_the_optimizer(tmp_path):
    """It has what every module's optimizer needs to go on."""
    model, _ = pair(2)
    model.compile(optimizers.Adam(0.01), "mse", run_eagerly=True)
    fit(model)
    written = tf.train.Checkpoint(optimizer=model.optimizer).write(
        str(tmp_path / "checkpoint")
    )
    before = [np.array(v) for v in model.optimizer.variables]
    model.compile(optimizers.Adam(0.01), "mse", run_eagerly=True)
    fit(model, epochs=2)
    tf.train.Checkpoint(optimizer=model.optimizer).read(
        written
    ).assert_consumed()
    for variable, value in zip(model.optimizer.variables, before):
        np.testing.assert_array_equal(variable, value)
