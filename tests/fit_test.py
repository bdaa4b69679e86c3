"""What people do with `fit`, and what must not be ignored."""

import csv
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

import fr_keras

layers = keras.layers
callbacks = keras.callbacks
BATCH, STEPS, K = 4, 6, 3


def net(**first):
    return keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(5, activation="tanh", **first),
            layers.BatchNormalization(),
            layers.Dense(5, activation="tanh"),
            layers.Dropout(0.25, seed=1),
            layers.Dense(3),
        ]
    )


def data(num_batches=STEPS, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(BATCH * num_batches, 6)).astype("float32")
    return x, rng.normal(size=(BATCH * num_batches, 3)).astype("float32")


def compiled(network=None, num_modules=K, algorithm=None, **options):
    algorithm = algorithm or fr_keras.FeaturesReplay
    model = algorithm(network or net(), num_modules)
    optimizer = options.pop("optimizer", None)
    if optimizer is None:
        optimizer = keras.optimizers.SGD(0.1, momentum=0.9)
    model.compile(optimizer, "mse", **options)
    return model


def fit(model, *args, **options):
    args = args or data()
    return model.fit(
        *args, **{"batch_size": BATCH, "shuffle": False, "verbose": 0}
        | options
    )


def values(model):
    """Weights; Keras does not save the state of random layers with them."""
    return [variable.numpy() for variable in model.weights]


def assert_same(actual, expected, rtol=0.0):
    assert len(actual) == len(expected)
    for a, b in zip(actual, expected):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol / 10)


def differ(actual, expected):
    return [bool((a != b).any()) for a, b in zip(actual, expected)]


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


@pytest.mark.parametrize("algorithm", fr_keras.ALGORITHMS.values())
def test_xla_inside_modules(algorithm):
    network = net()
    network.get_layer(index=-2).rate = 0.0  # XLA draws other numbers.
    model = compiled(network, algorithm=algorithm)
    fit(model)
    by_xla = compiled(network, algorithm=algorithm, jit_compile=True)
    fit(by_xla)
    assert_same(values(by_xla), values(model), rtol=1e-4)
    assert by_xla.jit_compile is False  # Not the whole step for one device.
    functions = [by_xla._learn, *by_xla._update]
    if algorithm is fr_keras.FeaturesReplay:
        functions += [*by_xla._play, *by_xla._replay]
    assert all(f._function._jit_compile for f in functions)


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


@pytest.mark.parametrize("frozen", [0, 1, 2])
@pytest.mark.parametrize("algorithm", fr_keras.ALGORITHMS.values())
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
    replay = fr_keras.algorithms.features_replay.replay
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "fr_keras.algorithms.features_replay.replay",
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
    with pytest.warns(UserWarning, match="no trainable weights"):
        fit(model)
    assert_same(values(model), before)


# Callbacks.


def test_learning_rate_scheduler():
    model = compiled(
        optimizer=keras.optimizers.SGD(0.1), steps_per_execution=2
    )
    weights = []
    fit(
        model, epochs=3,
        callbacks=[
            callbacks.LearningRateScheduler(
                lambda epoch: [0.1, 0.0, 0.2][epoch]
            ),
            callbacks.LambdaCallback(
                on_epoch_end=lambda epoch, logs: weights.append(
                    [v.numpy() for v in model.trainable_variables]
                )
            ),
        ],
    )
    assert_same(weights[1], weights[0])
    assert all(differ(weights[2], weights[1])[:1])
    assert float(model.optimizer.learning_rate) == pytest.approx(0.2)


def test_reduce_on_plateau():
    model = compiled()
    history = fit(
        model, epochs=4,
        callbacks=[
            callbacks.ReduceLROnPlateau("loss", 0.5, patience=1, min_delta=99)
        ],
    )
    # Logged before it acts at the end of the epoch.
    np.testing.assert_allclose(
        history.history["learning_rate"], [0.1, 0.1, 0.05, 0.025], rtol=1e-6
    )


def test_early_stopping_restores_the_best_weights():
    model = compiled()
    rising = iter(range(10))
    seen = []

    class Spoil(callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            logs["quantity"] = next(rising)
            seen.append(
                [v.numpy() for v in self.model.trainable_variables]
            )

    fit(
        model, epochs=9,
        callbacks=[
            Spoil(),
            callbacks.EarlyStopping(
                "quantity", patience=2, restore_best_weights=True, mode="min"
            ),
        ],
    )
    assert len(seen) == 3
    assert_same([v.numpy() for v in model.trainable_variables], seen[0])


def test_model_checkpoint(tmp_path):
    model = compiled(metrics=["mae"])
    fit(
        model, epochs=2,
        callbacks=[
            callbacks.ModelCheckpoint(tmp_path / "{epoch}.keras"),
            callbacks.ModelCheckpoint(
                tmp_path / "{epoch}.weights.h5", save_weights_only=True
            ),
        ],
    )
    assert_same(
        values(keras.models.load_model(tmp_path / "2.keras")), values(model)
    )
    other = compiled()
    other.load_weights(tmp_path / "2.weights.h5")
    assert_same(values(other), values(model))
    other.load_weights(tmp_path / "1.weights.h5")
    assert any(differ(values(other), values(model)))


def test_backup_and_restore(tmp_path):
    """An interrupted run goes on from its last epoch, optimizer included."""

    class Interrupt(callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                raise KeyboardInterrupt

    network = net()
    model = compiled(network)
    backup = callbacks.BackupAndRestore(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        fit(model, epochs=3, callbacks=[backup, Interrupt()])
    weights = values(model)
    state = [v.numpy() for v in model.optimizer.variables]

    again = compiled(network)
    found = []

    class Look(callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if not found:
                found.extend(values(self.model))
                found.append(epoch)
                found.append(
                    [v.numpy() for v in self.model.optimizer.variables]
                )

    fit(
        again, epochs=3,
        callbacks=[callbacks.BackupAndRestore(tmp_path), Look()],
    )
    assert_same(found[:-2], weights)
    assert found[-2] == 2
    assert_same(found[-1], state)


def test_tensorboard(tmp_path):
    """With everything on that `keras.callbacks.TensorBoard` has."""
    model = compiled()
    fit(
        model, epochs=2, validation_data=data(),
        callbacks=[
            callbacks.TensorBoard(
                tmp_path, histogram_freq=1, write_images=True,
                update_freq="batch", write_steps_per_second=True,
            )
        ],
    )
    assert list((tmp_path / "train").glob("events*"))
    assert list((tmp_path / "validation").glob("events*"))


def test_csv_logger(tmp_path):
    history = fit(
        compiled(), epochs=2, callbacks=[callbacks.CSVLogger(tmp_path / "csv")]
    )
    with open(tmp_path / "csv") as file:
        rows = list(csv.DictReader(file))
    np.testing.assert_allclose(
        [float(row["loss"]) for row in rows], history.history["loss"]
    )


def test_terminate_on_nan():
    x, y = data()
    x[2 * BATCH] = np.nan
    model = compiled()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        history = fit(
            model, x, y, epochs=3, callbacks=[callbacks.TerminateOnNaN()]
        )
    assert len(history.history["loss"]) == 1
    assert int(model.optimizer.iterations) == 3


def test_swap_ema_weights():
    """Evaluation sees the averages, training the weights."""
    model = compiled(
        optimizer=keras.optimizers.SGD(0.1, use_ema=True, ema_momentum=0.5)
    )
    seen = {}

    class Look(callbacks.Callback):
        def on_test_batch_begin(self, batch, logs=None):
            seen["in evaluation"] = [
                v.numpy() for v in model.trainable_variables
            ]

        def on_epoch_begin(self, epoch, logs=None):
            seen["in training"] = [v.numpy() for v in model.trainable_variables]

    averages = []

    class Keep(callbacks.Callback):
        def on_test_begin(self, logs=None):
            averages.extend(
                average.numpy()
                for optimizer in model.optimizer.per_module
                for average in optimizer._model_variables_moving_average
            )

    fit(
        model, validation_data=data(),
        callbacks=[Keep(), callbacks.SwapEMAWeights(), Look()],
    )
    assert_same(seen["in evaluation"], averages, rtol=1e-5)
    assert all(differ(seen["in evaluation"], seen["in training"]))


def test_progress_bar(capsys):
    fit(compiled(metrics=["mae"]), verbose=1)
    out = capsys.readouterr().out
    assert f"{STEPS}/{STEPS}" in out and "mae" in out and "loss" in out


# Sequences.


def transformer(length=None):
    tokens = keras.Input((length,), dtype="int32")
    x = layers.Embedding(20, 8, mask_zero=True)(tokens)
    for _ in range(2):
        attended = layers.MultiHeadAttention(2, 4)(x, x)
        x = layers.LayerNormalization()(x + attended)
        inner = layers.Dense(8)(layers.Dense(16, activation="gelu")(x))
        x = layers.LayerNormalization()(layers.Dropout(0.1)(x + inner))
    return keras.Model(tokens, layers.Dense(20)(x))


def lstm():
    return keras.Sequential(
        [
            keras.Input((None,), dtype="int32"),
            layers.Embedding(20, 8, mask_zero=True),
            layers.LSTM(16, return_sequences=True),
            layers.Bidirectional(layers.LSTM(8, return_sequences=True)),
            layers.Dense(20),
        ]
    )


@pytest.mark.parametrize("make, steps", [(transformer, 3), (lstm, 1)])
def test_sequences_of_varying_length(make, steps):
    """Every batch has a length of its own; the task is to copy."""
    rng = np.random.default_rng(0)

    def batches():
        for i in range(120):
            length = 3 + i % 4
            tokens = rng.integers(1, 20, (8, length)).astype("int32")
            tokens[0, 2:] = 0
            yield tokens, tokens

    model = fr_keras.FeaturesReplay(make(), 3)
    model.compile(
        keras.optimizers.Adam(0.02),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        steps_per_execution=steps,
    )
    dataset = tf.data.Dataset.from_generator(
        batches, output_signature=(tf.TensorSpec([None, None], tf.int32),) * 2
    )
    losses = model.fit(
        dataset, epochs=3, verbose=0, shuffle=False
    ).history["loss"]
    assert losses[-1] < 0.1 * losses[0], losses
