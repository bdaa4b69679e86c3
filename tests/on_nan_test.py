"""What is not finite changes nothing, and is told."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import fr_keras

_chance = np.random.default_rng(0)
X = _chance.normal(size=(120, 6)).astype("float32")
Y = _chance.normal(size=(120, 2)).astype("float32")
SPOILED = 7  # A mini-batch of ten.


@keras.saving.register_keras_serializable("tests")
class SpoiltGradient(layers.Layer):
    """Passes its input on; in its tenth pass the gradient is NaN."""

    def build(self, shape):
        self.scale = self.add_weight(shape=(), initializer="ones")
        self.passes = self.add_weight(
            shape=(), initializer="zeros", trainable=False
        )

    def call(self, x, training=False):
        passes = tf.convert_to_tensor(self.passes)
        if training:
            self.passes.assign(passes + 1)

        @tf.custom_gradient
        def spoil(scale):
            return scale, lambda d: tf.where(
                tf.equal(passes, 9.0), np.nan * d, d
            )

        return x * spoil(tf.convert_to_tensor(self.scale))


def network(spoilt_module=None):
    # No activation that would turn NaN into 0, as relu does.
    keras.utils.set_random_seed(5)
    parts = [
        [keras.Input([6]), layers.Dense(8), layers.BatchNormalization()],
        [keras.Input([8]), layers.Dense(8)],
        [keras.Input([8]), layers.Dense(2)],
    ]
    if spoilt_module is not None:
        parts[spoilt_module - 1].append(SpoiltGradient())
    return [keras.Sequential(part) for part in parts]


def build(algorithm="FeaturesReplay", modules=None, steps=4, optimizer=None):
    options = {"num_microbatches": 2} if "Pipe" in algorithm else {}
    model = getattr(fr_keras, algorithm)(modules or network(), **options)
    model.compile(
        optimizer or keras.optimizers.SGD(0.02, 0.9, nesterov=True), "mse",
        steps_per_execution=steps,
    )
    return model


def spoiled(value=np.nan):
    x = X.copy()
    x[10 * SPOILED + 3, 2] = value
    return x


def fit(model, x, y=Y, action="skip", epochs=2):
    callback = fr_keras.OnNaN(action)
    history = model.fit(
        x, y, batch_size=10, epochs=epochs, shuffle=False, verbose=0,
        callbacks=[callback],
    ).history
    return callback, history


@pytest.mark.parametrize("steps", [1, 4])
@pytest.mark.parametrize("algorithm", ["Backprop", "FeaturesReplay"])
def test_skipping_is_training_without_the_batch(algorithm, steps):
    def whole():
        return [keras.Sequential([
            keras.Input([6]),
            *(layer for part in network() for layer in part.layers),
        ])]

    model = build(algorithm, whole(), steps)
    callback, history = fit(model, spoiled())
    others = np.delete(np.arange(120), slice(10 * SPOILED, 10 * SPOILED + 10))
    (plain,) = whole()
    plain.compile(
        keras.optimizers.SGD(0.02, 0.9, nesterov=True), "mse",
        jit_compile=False,
    )
    expected = plain.fit(
        X[others], Y[others], batch_size=10, epochs=2, shuffle=False, verbose=0
    ).history
    for ours, theirs in zip(model.weights, plain.weights, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(history["loss"], expected["loss"], rtol=1e-5)
    assert callback.skipped == [2]
    assert history["skipped_updates/module_1"] == [1, 2]


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize(
    "algorithm",
    ["FeaturesReplay", "DDG", "DNI", "GPipe", "Pipeline", "Backprop"],
)
@pytest.mark.quick_cases("FeaturesReplay-nan", "DDG-inf", "Backprop-inf")
def test_weights_stay_finite(algorithm, value):
    model = build(algorithm)
    callback, history = fit(model, spoiled(value), epochs=2)
    # One update of each module, in each epoch.
    assert callback.skipped == [2, 2, 2]
    assert np.isfinite(history["loss"]).all()
    for variable in model.variables:
        assert np.isfinite(variable).all(), variable.path
    for module in model.pipeline.modules:
        assert int(module.optimizer.iterations) > 15


@pytest.mark.parametrize(
    "algorithm, steps",
    [
        ("FeaturesReplay", 1), ("FeaturesReplay", 5), ("DDG", 4), ("DNI", 1),
        ("GPipe", 4), ("Pipeline", 4), ("Backprop", 5),
        *(
            pytest.param(algorithm, steps, marks=pytest.mark.slow)
            for algorithm, steps in (
                ("FeaturesReplay", 4), ("DDG", 1), ("DDG", 5), ("DNI", 4),
                ("DNI", 5), ("GPipe", 1), ("GPipe", 5), ("Backprop", 1),
                ("Backprop", 4),
            )
        ),
    ],
)
@pytest.mark.quick_cases("FeaturesReplay-5", "GPipe-4")
def test_stops_at_the_loss(algorithm, steps):
    with pytest.raises(fr_keras.NonFiniteError) as caught:
        fit(build(algorithm, steps=steps), spoiled(), action="stop")
    error = caught.value
    assert (error.step, error.quantity) == (SPOILED, "loss")
    assert str(error) == (
        "In iteration 7 the loss of module 3 was not finite; its "
        "mini-batch is not finite either"
    )


def test_iterations_are_mini_batches():
    """Also where a step of the optimizer takes several of them."""
    model = build(steps=1, optimizer=keras.optimizers.SGD(
        0.05, gradient_accumulation_steps=3
    ))
    with pytest.raises(fr_keras.NonFiniteError, match="iteration 7 the loss"):
        fit(model, spoiled(), action="stop")


@pytest.mark.parametrize("module", [1, 2, 3])
@pytest.mark.parametrize("algorithm", ["FeaturesReplay", "DDG", "Backprop"])
@pytest.mark.quick_cases("FeaturesReplay-1", "DDG-3")
def test_stops_at_a_gradient(algorithm, module):
    model = build(algorithm, network(module))
    with pytest.raises(fr_keras.NonFiniteError) as caught:
        fit(model, X, action="stop")
    error = caught.value
    # That of the mini-batch that was the tenth to be played.
    delay = 0 if algorithm == "Backprop" else 3 - module
    assert (error.module, error.quantity) == (module, "gradient")
    assert error.step == 9 + delay
    for variable in model.variables:
        assert np.isfinite(variable).all(), variable.path


def test_says_which_module_makes_it():
    model = build()
    with pytest.raises(
        fr_keras.NonFiniteError,
        match="iteration 8 the loss .*; the output of module 2 for its mini",
    ):
        model.fit(
            X, Y, batch_size=10, shuffle=False, verbose=0,
            callbacks=[Break(), fr_keras.OnNaN()],
        )


def test_changes_nothing_of_a_healthy_training():
    models = build(), build()
    fit(models[0], X)
    models[1].fit(X, Y, batch_size=10, epochs=2, shuffle=False, verbose=0)
    for one, other in zip(models[0].variables, models[1].variables):
        np.testing.assert_array_equal(one, other)
    # And afterwards nothing of it is left.
    models[0].fit(spoiled(), Y, batch_size=10, shuffle=False, verbose=0)
    assert np.isnan(models[0].weights[0]).any()


def test_overflow_under_a_scale_is_no_failure():
    model = build(optimizer=keras.optimizers.LossScaleOptimizer(
        keras.optimizers.SGD(0.05), initial_scale=2.0**127
    ))
    callback, _ = fit(model, X, action="stop")
    assert callback.skipped == [0, 0, 0]
    assert any(
        float(module.loss_scale) < 2.0**127 for module in model.pipeline.modules
    )


def test_warns_once(caplog):
    fit(build(), spoiled(), epochs=4)
    assert caplog.text.count("such updates are skipped") == 1


def test_nonsense_is_refused():
    with pytest.raises(ValueError, match="`action` must.*Received: action='x'"):
        fr_keras.OnNaN("x")


def test_guards_end_with_the_training_that_they_stopped():
    """Later trainings without the callback are as if it had never been."""
    model = build("FeaturesReplay")
    with pytest.raises(fr_keras.NonFiniteError):
        fit(model, spoiled(), action="stop")
    assert all(module.guard is None for module in model.pipeline.modules)
    assert model.objective.guard is None
    loss = model.fit(
        spoiled(), Y, batch_size=4, shuffle=False, verbose=0
    ).history["loss"]
    assert np.isnan(loss).all()


class Break(keras.callbacks.Callback):
    """Sets a weight of module 2 to infinity before the ninth mini-batch."""

    def on_train_batch_begin(self, batch, logs=None):
        if batch == 8:
            bias = self.model.modules[1].layers[0].bias
            bias.assign(bias + np.inf)


@pytest.mark.parametrize("action", ["stop", "skip"])
@pytest.mark.parametrize("weight", [0, 5])
def test_weights_that_are_not_finite(action, weight):
    """Nothing that is skipped would mend them."""
    model = build()
    variable = model.modules[0].weights[weight]  # A kernel, a variance.
    assert variable.trainable == (weight == 0)
    variable.assign(variable * np.nan)
    with pytest.raises(
        fr_keras.NonFiniteError,
        match=f"^Before iteration 0 the weight of module 1 was not finite: "
        f"'{variable.path}'; assign finite values",
    ) as caught:
        fit(model, X, action=action)
    error = caught.value
    assert (error.step, error.module, error.quantity) == (0, 1, "weight")


def test_infinity_may_be_meant_in_what_is_not_trained():
    """As in masks that are added to scores."""
    class Mask(layers.Layer):
        def build(self, shape):
            self.mask = self.add_weight(
                shape=(2,), trainable=False,
                initializer=keras.initializers.Constant(-np.inf),
            )

        def call(self, x):
            return x + tf.reduce_sum(tf.exp(self.mask))

    parts = network()
    parts[0].add(Mask())
    callback, _ = fit(build(modules=parts), X)
    assert callback.skipped == [0, 0, 0]


def test_weights_that_break_while_batches_are_skipped():
    model = build()
    with pytest.raises(
        fr_keras.NonFiniteError, match="weight of module 2 was not finite: '"
    ):
        model.fit(
            X, Y, batch_size=10, shuffle=False, verbose=0,
            callbacks=[Break(), fr_keras.OnNaN("skip")],
        )


def test_too_large_a_step_is_noticed():
    """Its gradient was finite, the weights that it leaves are not."""
    model = build("Backprop", optimizer=keras.optimizers.SGD(3e38))
    with pytest.raises(fr_keras.NonFiniteError, match="the weight of module"):
        fit(model, X)


def test_loss_of_an_epoch_of_which_nothing_was_left():
    model = build("Backprop")  # It keeps nothing of the batches.
    model.compile("sgd", "mse", metrics=["mae"], steps_per_execution=4)
    calls = []
    history = model.fit(
        spoiled(), Y, batch_size=120, epochs=2, verbose=0,
        validation_data=(X, Y), callbacks=[
            keras.callbacks.LambdaCallback(
                on_train_batch_end=lambda batch, logs: calls.append(dict(logs))
            ),
            fr_keras.OnNaN("skip"),
        ],
    ).history
    for logs in (history, *calls):
        assert np.isnan(logs["loss"]).all() and np.isnan(logs["mae"]).all()
    assert np.isfinite(history["val_loss"]).all()
    assert len(calls) == 2
    # Without the callback it is as ever.
    assert np.isfinite(model.fit(X, Y, verbose=0).history["mae"]).all()
