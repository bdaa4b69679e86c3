"""Half precision, and loss scales that cross iterations."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import fr_keras

layers = keras.layers
BATCH, STEPS, K = 4, 12, 3


@pytest.fixture
def policy():
    yield keras.config.set_dtype_policy
    keras.config.set_dtype_policy("float32")


def net():
    return keras.Sequential(
        [keras.Input((6,))]
        + [layers.Dense(8, activation="tanh") for _ in range(4)]
        + [layers.Dense(3, dtype="float32")]
    )


def data():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(BATCH * STEPS, 6)).astype("float32")
    return x, (x[:, :3] * x[:, 3:]).astype("float32")


def scaled(optimizer, initial_scale=4.0, growth_steps=2):
    return keras.optimizers.LossScaleOptimizer(
        optimizer, initial_scale, growth_steps
    )


ONE_OR_SEVERAL_STEPS = [pytest.param(1, marks=pytest.mark.slow), 4]


@pytest.mark.parametrize("name", ["mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("algorithm", fr_keras.ALGORITHMS.values())
@pytest.mark.parametrize("steps", ONE_OR_SEVERAL_STEPS)
@pytest.mark.quick_cases(
    "FeaturesReplay-mixed_float16", "DDG-mixed_bfloat16",
    "GPipe-mixed_float16",
)
def test_trains(policy, name, algorithm, steps):
    policy(name)
    model = algorithm(net(), K)
    assert model.dtype_policy.name == name
    model.compile(
        keras.optimizers.Adam(0.02), "mse", steps_per_execution=steps
    )
    losses = model.fit(*data(), batch_size=BATCH, epochs=20, verbose=0)
    losses = losses.history["loss"]
    # Synthetic gradients are a poor guide, in float32 too.
    enough = 0.9 if algorithm is fr_keras.DNI else 0.5
    assert losses[-1] < enough * losses[0]
    assert {v.dtype for v in model.trainable_variables} == {"float32"}
    if name == "mixed_float16":
        scales = [
            float(optimizer.dynamic_scale)
            for optimizer in model.optimizer.per_module
        ]
        assert len(scales) == K and min(scales) >= 2.0**10


def test_error_gradients_are_in_half_precision(policy):
    policy("mixed_bfloat16")
    model = fr_keras.FeaturesReplay(net(), K)
    model.compile("sgd", "mse")
    model.fit(*data(), batch_size=BATCH, verbose=0)
    for delta in model.pipeline._deltas:
        assert {v.dtype for v in delta.variables} == {tf.bfloat16}


@pytest.mark.parametrize("steps", ONE_OR_SEVERAL_STEPS)
@pytest.mark.parametrize("algorithm", fr_keras.ALGORITHMS.values())
@pytest.mark.quick_cases("FeaturesReplay-4")
def test_error_gradients_carry_their_scale(algorithm, steps):
    """Scales grow in every other update, in each module by itself.

    In float32, powers of two change no digit: a δ taken at another scale than
    it was made with would.
    """
    network = net()
    models = []
    for wrap in (lambda optimizer: optimizer, scaled):
        keras.utils.set_random_seed(1)  # For the synthesizers of DNI.
        model = algorithm(network, K)
        model.compile(
            wrap(keras.optimizers.SGD(0.1, momentum=0.9)), "mse",
            steps_per_execution=steps,
        )
        model.fit(*data(), batch_size=BATCH, shuffle=False, verbose=0)
        models.append(model)
    plain, with_scale = models
    for ours, theirs in zip(with_scale.variables, plain.variables):
        np.testing.assert_allclose(
            ours.numpy(), theirs.numpy(), rtol=1e-5, atol=1e-7
        )
    late = [max(0, model.num_warmup_steps - k) for k in range(K)]
    assert [
        float(optimizer.dynamic_scale)
        for optimizer in with_scale.optimizer.per_module
    ] == [4.0 * 2 ** ((STEPS - t) // 2) for t in late]


@keras.saving.register_keras_serializable("mixed_precision_test")
class Overflowing(layers.Dense):
    """Its own gradient is infinite for inputs with a mark, not what it sends.
    """

    def call(self, x):
        marked = tf.reduce_any(x[:, -1] > 100.0)

        @tf.custom_gradient
        def spoil(kernel):
            def gradient(d):
                return tf.where(marked, d * np.inf, d)

            return tf.identity(kernel), gradient

        # The mark does not take part.
        x = tf.where(x > 100.0, 0.0, x)
        x = tf.matmul(x, spoil(tf.convert_to_tensor(self.kernel))) + self.bias
        mark = tf.where(marked, tf.fill(tf.shape(x[:, -1:]), 1000.0), 0.0)
        return tf.concat([x[:, :-1], mark], -1)


@pytest.mark.parametrize("steps", [1, 4])
def test_overflow_skips_the_update_of_its_module_only(steps):
    marked = 5  # The batch. Module 2 of 3 replays it one iteration later.
    modules = [
        MarkedDense(6),
        Overflowing(6),
        MarkEater(3),
    ]
    x, y = data()
    x[marked * BATCH, -1] = 1000.0
    model = fr_keras.FeaturesReplay(modules)
    model.compile(
        scaled(keras.optimizers.SGD(0.1), 64.0, 10**6), "mse",
        steps_per_execution=steps,
    )
    model.fit(x, y, batch_size=BATCH, shuffle=False, verbose=0)

    updates = [
        int(optimizer.inner_optimizer.iterations)
        for optimizer in model.optimizer.per_module
    ]
    scales = [
        float(optimizer.dynamic_scale)
        for optimizer in model.optimizer.per_module
    ]
    assert updates == [STEPS - 2, STEPS - 1 - 1, STEPS]
    assert scales == [64.0, 32.0, 64.0]
    for variable in model.variables:
        assert np.isfinite(variable.numpy()).all()


@keras.saving.register_keras_serializable("mixed_precision_test")
class MarkedDense(layers.Dense):
    """Hands the mark of its input on."""

    def call(self, x):
        marked = tf.reduce_any(x[:, -1] > 100.0)
        y = super().call(tf.where(x > 100.0, 0.0, x))
        mark = tf.where(marked, tf.fill(tf.shape(y[:, -1:]), 1000.0), 0.0)
        return tf.concat([y[:, :-1], mark], -1)


@keras.saving.register_keras_serializable("mixed_precision_test")
class MarkEater(layers.Dense):
    """Ignores the mark."""

    def call(self, x):
        return super().call(tf.where(x > 100.0, 0.0, x))
