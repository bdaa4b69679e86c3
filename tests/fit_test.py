"""What people do with `fit`, and what must not be ignored."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import fr_keras
from tests.small_net import (
    BATCH,
    STEPS,
    assert_same,
    compiled,
    data,
    differ,
    fit,
    net,
    values,
)

layers = keras.layers


# Ways to give data, and to run.


class Batches(keras.utils.PyDataset):
    def __init__(self):
        super().__init__()
        self.x, self.y = data()

    def __len__(self):
        return STEPS

    def __getitem__(self, i):
        batch = slice(i * BATCH, (i + 1) * BATCH)
        return self.x[batch], self.y[batch]


def generator():
    batches = Batches()
    for i in range(STEPS):
        yield batches[i]


def on_batches(model):
    for x, y in generator():
        model.train_on_batch(x, y)


WAYS = {
    "tf.data": lambda model: fit(
        model, tf.data.Dataset.from_tensor_slices(data()).batch(BATCH),
        batch_size=None,
    ),
    "PyDataset": lambda model: fit(model, Batches(), batch_size=None),
    "generator": lambda model: fit(
        model, generator(), batch_size=None, steps_per_epoch=STEPS
    ),
    "tensors": lambda model: fit(model, *map(tf.constant, data())),
    "train_on_batch": on_batches,
}


@pytest.fixture(scope="module")
def expected():
    """State after one epoch from numpy arrays, one iteration per call."""
    keras.utils.set_random_seed(1)
    network = net()
    model = compiled(network)
    fit(model)
    return network, values(model)


@pytest.mark.parametrize("way", list(WAYS))
def test_data_in_any_form(expected, way):
    network, after = expected
    model = compiled(network)
    WAYS[way](model)
    assert_same(values(model), after, rtol=1e-6)


def test_eager_run_gives_the_same(expected):
    network, after = expected
    model = compiled(network, run_eagerly=True)
    fit(model)
    assert_same(values(model), after, rtol=1e-5)


def test_eager_run_is_eager():
    """Python runs in every step, on values."""
    seen = []

    class Printing(layers.Layer):
        def call(self, x):
            seen.append(x.numpy().shape)
            return x

    class Network(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense, self.printing = layers.Dense(5), Printing()

        def call(self, x):
            return self.printing(self.dense(x))

    model = fr_keras.FeaturesReplay([Network(), layers.Dense(3)])
    model.compile("sgd", "mse", run_eagerly=True)
    fit(model)
    # To build, 6 plays and 5 replays.
    assert seen == [(BATCH, 5)] * 12


def traced(function):
    """The `tf.function` that a function of a module calls in the end."""
    while not hasattr(function, "_jit_compile"):
        function = function._function
    return function


@pytest.mark.parametrize("algorithm", fr_keras.ALGORITHMS.values())
@pytest.mark.quick_cases("FeaturesReplay")
def test_xla_inside_modules(algorithm):
    network = net()
    network.get_layer(index=-2).rate = 0.0  # XLA draws other numbers.
    models = []
    for jit_compile in (False, True):
        keras.utils.set_random_seed(1)  # For the synthesizers of DNI.
        models.append(
            compiled(network, algorithm=algorithm, jit_compile=jit_compile)
        )
        fit(models[-1])
    model, by_xla = models
    assert_same(values(by_xla), values(model), rtol=1e-4)
    assert by_xla.jit_compile is False  # Not the whole step for one device.
    pipeline = by_xla.pipeline
    functions = [pipeline.learn._learn]
    for name in "play replay forward backward predict compare update".split():
        functions += getattr(pipeline, f"_{name}", [])
    if algorithm is not fr_keras.Backprop:  # It updates modules itself.
        updates = by_xla.training.lockstep.update._updates
        functions += [each._update for each in updates]
    kinds = {"Backprop": 1, "DNI": 4}.get(algorithm.__name__, 3)
    assert len(functions) >= 1 + kinds * (pipeline.num_modules - 1)
    assert all(traced(f)._jit_compile for f in functions)


def test_fit_goes_on_where_it_stopped():
    """Two epochs are two calls; replay queues and δ stay."""
    network = net()
    whole, parts = compiled(network), compiled(network)
    fit(whole, epochs=2)
    fit(parts)
    fit(parts)
    assert_same(values(parts), values(whole))
    assert_same(
        [v.numpy() for v in parts.optimizer.variables],
        [v.numpy() for v in whole.optimizer.variables],
    )


def test_other_data_and_batch_sizes():
    model = compiled(steps_per_execution=4)
    fit(model)
    history = fit(model, *data(9, seed=1), batch_size=7)
    assert np.isfinite(history.history["loss"]).all()
    assert int(model.optimizer.iterations) == STEPS + 6


def test_compile_begins_anew():
    network = net()
    model, fresh = compiled(network), compiled(network)
    fit(model)
    for ours, theirs in zip(model.variables, fresh.variables):
        ours.assign(theirs)
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), "mse")
    fit(model)
    fit(fresh)
    assert_same(values(model), values(fresh))


def test_evaluate_predict_and_single_batches():
    model = compiled(metrics=["mae"])
    x, y = data()
    fit(model)
    predicted = model.predict(x, batch_size=5, verbose=0)
    assert_same([predicted], [model.to_keras()(x)], rtol=1e-5)
    assert_same([predicted], [model.predict_on_batch(x)], rtol=1e-5)
    loss, mae = model.evaluate(x, y, verbose=0)
    np.testing.assert_allclose(loss, np.mean((predicted - y) ** 2), rtol=1e-5)
    np.testing.assert_allclose(
        mae, np.mean(np.abs(predicted - y)), rtol=1e-5
    )
    np.testing.assert_allclose(
        model.test_on_batch(x, y), [loss, mae], rtol=1e-5
    )


def test_validation_and_metrics_are_stock_keras():
    """At K=1, with sample weights, all logs are those of Keras."""
    network = net()
    model = fr_keras.FeaturesReplay(network, 1)
    x, y = data()
    histories = []
    for each in (model, network):
        each.compile(
            "adam", "mse", metrics=["mae"], weighted_metrics=["mape"],
            jit_compile=False,
        )
        histories.append(
            fit(
                each, x, y, epochs=2, sample_weight=np.arange(len(x)) / 10,
                validation_split=0.25,
            ).history
        )
    assert set(histories[0]) == set(histories[1])
    for name, logs in histories[0].items():
        np.testing.assert_allclose(logs, histories[1][name], rtol=1e-5)


# Frozen layers.


def test_frozen_layers_stay():
    network = net()
    network.layers[0].trainable = False
    model = compiled(network)
    before = values(model)
    fit(model)
    changed = differ(values(model), before)
    # Kernel and bias of the first layer; all others move.
    assert changed[:2] == [False, False] and all(changed[2:6])


@pytest.mark.parametrize(
    "algorithm, frozen",
    [
        (algorithm, frozen)
        for algorithm in fr_keras.ALGORITHMS.values()
        for frozen in range(3)
        if frozen == 1 or algorithm is fr_keras.FeaturesReplay
    ],
)
@pytest.mark.quick_cases("FeaturesReplay-1", "DDG-1")
def test_whole_module_frozen(frozen, algorithm):
    """Between calls of `fit`; modules below go on learning."""
    model = compiled(algorithm=algorithm)
    fit(model)
    model.modules[frozen].trainable = False
    model.compile(keras.optimizers.SGD(0.1), "mse")
    before = [values(module) for module in model.modules]
    fit(model)
    for k, module in enumerate(model.modules):
        moved = [
            bool((v.numpy() != value).any())
            for v, value in zip(module.weights, before[k])
        ]
        assert any(moved) != (k == frozen)


def test_frozen_prefix_is_not_replayed():
    """There is nothing to learn below the first trainable layer."""
    model = compiled()
    model.modules[0].trainable = False
    model.compile("sgd", "mse", run_eagerly=True)
    replays = []
    replay = fr_keras.algorithms.replay_pipeline.replay
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "fr_keras.algorithms.replay_pipeline.replay",
            lambda module, *args: replays.append(module.submodel)
            or replay(module, *args),
        )
        fit(model)
    assert set(replays) == {model.modules[1]}


def test_nothing_to_train():
    network = net()
    network.trainable = False
    model = compiled(network)
    before = values(model)
    with pytest.warns(UserWarning, match="any trainable weights"):
        fit(model)
    assert_same(values(model), before)
