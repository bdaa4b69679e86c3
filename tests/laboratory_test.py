"""The laboratory trains as the library does."""

import keras
import numpy as np
import pytest

import fr_keras
from tests import small_net
from tests.agreement import BATCH, convolutional_net, data, dense_net
from trainers.experiment.learning_rate import WarmUp
from trainers.studies.laboratory import Laboratory

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
RATES, SEEDS = [0.25, 0.125, 0.25], [3, 3, 4]


def schedule(t):
    return min(4, t + 1) / 4


def batches_of(net):
    x, y = data(net)
    return [(x[i:i + BATCH], y[i:i + BATCH]) for i in range(0, 48, BATCH)] * 3


OPTIMIZERS = {
    "momentum": lambda: keras.optimizers.SGD(momentum=0.875),
    "adam": lambda: keras.optimizers.Adam(beta_2=0.875, epsilon=2**-10),
    "muon": lambda: keras.optimizers.Muon(),
}


@pytest.mark.parametrize("num_modules, net, optimizer, policy", [
    (1, dense_net, "adam", None),
    pytest.param(3, dense_net, "momentum", None, marks=pytest.mark.slow),
    (4, dense_net, "adam", fr_keras.DelayPolicy()),
    (3, convolutional_net, "momentum", fr_keras.DelayPolicy()),
    pytest.param(
        3, dense_net, "muon", fr_keras.DelayPolicy(), marks=pytest.mark.slow
    ),
])
@pytest.mark.quick_cases("3-convolutional_net-momentum")
def test_runs_are_those_of_the_library(
    float64, num_modules, net, optimizer, policy
):
    check_runs(num_modules, net, optimizer, policy)


def check_runs(num_modules, net, optimizer, policy, accumulation=1):
    # Muon makes much of rounding errors.
    scale = 1 / 64 if optimizer == "muon" else 1
    rates = [scale * rate for rate in RATES]
    optimizer = OPTIMIZERS[optimizer]
    laboratory = Laboratory(
        net, num_modules, optimizer(), LOSS, rates, SEEDS, schedule, policy,
        gradient_shrink=0.75, accumulation=accumulation, jit_compile=False,
    )
    batches = batches_of(net())
    # Of an earlier training nothing must be left.
    laboratory.restart(rates[::-1], [8, 9, 3])
    for x, y in batches[:5]:
        laboratory.train(np.stack([x] * 3), np.stack([y] * 3))
    laboratory.restart(rates, SEEDS)
    losses = [laboratory.train(
        np.stack([x] * len(SEEDS)), np.stack([y] * len(SEEDS))
    ) for x, y in batches]

    for run, (rate, seed) in enumerate(zip(rates, SEEDS)):
        keras.utils.set_random_seed(seed)
        model = fr_keras.FeaturesReplay(
            net(), num_modules, gradient_shrink=0.75,
            weight_prediction=policy is not None, delay_policy=policy,
        )
        trained = optimizer()
        trained.learning_rate = WarmUp(rate, 4)
        if accumulation > 1:
            trained.gradient_accumulation_steps = accumulation
        model.compile(trained, LOSS)
        for t, (x, y) in enumerate(batches):
            loss = model.train_on_batch(x, y)
            # (Keras reports float32.)
            assert loss == pytest.approx(losses[t][run], rel=1e-6)
        of_library = [
            v.numpy() for m in model.modules for v in m.trainable_variables
        ]
        for a, b in zip(laboratory.weights(run), of_library, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-10)


def test_accumulation(float64):
    check_runs(3, dense_net, "adam", None, accumulation=2)


class ByDelay(fr_keras.DelayPolicy):
    def momentum(self, delay, momentum):
        return momentum**(1 + delay)

    def clipping(self, delay):
        return 1 / (1 + delay)


def test_a_policy_of_momentum_and_clipping(float64):
    OPTIMIZERS["clipped"] = lambda: keras.optimizers.SGD(
        momentum=0.875, global_clipnorm=1.0
    )
    check_runs(3, dense_net, "clipped", ByDelay())


def test_exact_iterations(float64):
    """Those of modules are those of the network, whatever came before."""
    def laboratory(num_modules):
        return Laboratory(
            convolutional_net, num_modules, OPTIMIZERS["momentum"](), LOSS,
            RATES, SEEDS, jit_compile=False,
        )

    one, several = laboratory(1), laboratory(3)
    for x, y in batches_of(convolutional_net())[:4]:
        batch = np.stack([x] * len(SEEDS)), np.stack([y] * len(SEEDS))
        np.testing.assert_allclose(
            several.train(*batch, exact=True), one.train(*batch), rtol=1e-10
        )


def test_random_layers_are_refused():
    with pytest.raises(
        ValueError, match="must not have layers that draw.*dropout"
    ):
        Laboratory(
            small_net.net, 2, keras.optimizers.SGD(), LOSS, [0.1], [0]
        )


@pytest.mark.parametrize("optimizer", [
    keras.optimizers.SGD(gradient_accumulation_steps=2),
    keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD()),
])
def test_optimizers_that_would_do_otherwise_are_refused(optimizer):
    with pytest.raises(ValueError, match="needs one optimizer.*Received"):
        Laboratory(dense_net, 2, optimizer, LOSS, [0.1], [0])


def test_a_seed_for_each_learning_rate():
    with pytest.raises(ValueError, match="a seed for each.*Received"):
        Laboratory(
            dense_net, 2, keras.optimizers.SGD(), LOSS, [0.1, 0.2], [0]
        )


def test_evaluate():
    """Of each run, over whole batches; compiled as studies do."""
    laboratory = Laboratory(
        dense_net, 2, keras.optimizers.SGD(), LOSS, RATES, SEEDS
    )
    x, y = data(dense_net())
    x, y = x.astype("float32"), y.astype("int32")
    laboratory.train(np.stack([x[:8]] * 3), np.stack([y[:8]] * 3))
    losses, accuracies = laboratory.evaluate(x, y, batch_size=20)
    for run in range(3):
        network = dense_net()
        network.set_weights(laboratory.weights(run))
        outputs = network.predict(x[:40], verbose=0)
        assert losses[run] == pytest.approx(float(LOSS(y[:40], outputs)))
        right = np.mean(outputs.argmax(-1) == y[:40])
        assert accuracies[run] == pytest.approx(right)
