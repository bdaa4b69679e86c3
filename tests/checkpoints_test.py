"""A training that goes on from a checkpoint ends as if never interrupted."""

import functools
import itertools
import shutil
import types

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import fr_keras
from fr_keras.callbacks.checkpoints import manifest, store, training_state

ALGORITHMS = ["FeaturesReplay", "DDG", "DNI", "GPipe", "Backprop"]

_chance = np.random.default_rng(0)
X = _chance.normal(size=(150, 8)).astype("float32")
Y = _chance.integers(0, 4, 150)


class Killed(Exception):
    """What ends a training in its middle."""


class Kill(keras.callbacks.Callback):
    """Ends training after so many calls of the training function."""

    def __init__(self, after):
        super().__init__()
        self.left = iter(range(after - 1))  # No state that would be kept.

    def on_train_batch_end(self, batch, logs=None):
        if next(self.left, None) is None:
            raise Killed


class Seen(keras.callbacks.Callback):
    """Notes the logs of epochs, and where calls begin."""

    def __init__(self):
        super().__init__()
        self.epochs = {}
        self.batches = set()

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_begin(self, batch, logs=None):
        self.batches |= {(self.epoch, batch)}

    def on_epoch_end(self, epoch, logs=None):
        self.epochs[epoch] = {k: float(v) for k, v in logs.items()}

    def get_state(self):  # It is not part of the training.
        return {}

    def set_state(self, state):
        del state


def network(activation="relu", rate=0.3, **options):
    keras.utils.set_random_seed(7)
    return keras.Sequential([
        keras.Input([8]),
        layers.Dense(16, activation, **options), layers.BatchNormalization(),
        layers.Dropout(rate), layers.Dense(16, activation),
        layers.Dropout(rate), layers.Dense(4),
    ])


def build(algorithm="FeaturesReplay", num_modules=3, steps=4, optimizer=None,
          net=network, **options):
    if algorithm == "GPipe":
        options["num_microbatches"] = 2
    model = getattr(fr_keras, algorithm)(net(), num_modules, **options)
    model.compile(
        optimizer() if optimizer else keras.optimizers.Adam(0.01),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        steps_per_execution=steps,
    )
    return model


def shuffled():
    return tf.data.Dataset.from_tensor_slices((X, Y)).shuffle(
        150, seed=3
    ).batch(10)


DATA = {
    "dataset": lambda: {"x": shuffled()},
    "unknown length": lambda: {"x": shuffled().filter(lambda *_: True)},
    "repeated": lambda: {"x": shuffled().repeat(), "steps_per_epoch": 13},
    "arrays": lambda: {
        "x": X, "y": Y, "batch_size": 10, "validation_data": (X[:30], Y[:30]),
    },
}


def killed_and_continued(folder, make, data, kills, callbacks=list, **options):
    """Trains with kills; returns the model, what was seen, the restores."""
    seen, restored = Seen(), []
    for after in [*kills, None]:
        model = make()
        kept = fr_keras.Checkpoints(folder, every_steps=4, **options)
        late = [Kill(after)] if after else []
        try:
            model.fit(
                **data(), epochs=4, verbose=0,
                callbacks=[kept, *callbacks(), seen, *late],
            )
        except Killed:
            pass
        restored.append(kept.restored)
    return model, seen, restored


def trained(make, data, callbacks=list):
    model, seen = make(), Seen()
    model.fit(**data(), epochs=4, verbose=0, callbacks=[*callbacks(), seen])
    return model, seen


def assert_equal_models(one, other):
    state = [training_state.variables(model) for model in (one, other)]
    for group in state[0]:
        for a, b in zip(state[0][group], state[1][group], strict=True):
            if a.dtype != tf.variant:
                np.testing.assert_array_equal(a, b, err_msg=f"{group} {a.name}")


FAST = [
    *(("FeaturesReplay", data, 4) for data in ("arrays", "dataset")),
    ("DDG", "dataset", 4), ("Backprop", "dataset", 4),
]


@pytest.mark.parametrize(
    "algorithm, data, steps",
    [
        pytest.param(
            *case, marks=() if case in FAST else pytest.mark.slow
        ) for case in itertools.product(ALGORITHMS, DATA, [1, 4])
    ],
)
def test_goes_on_bit_for_bit(algorithm, data, steps, tmp_path, deterministic):
    make = functools.partial(build, algorithm, steps=steps)
    expected, whole = trained(make, DATA[data])
    model, seen, restored = killed_and_continued(
        tmp_path, make, DATA[data], [6, 5] if steps == 4 else [21, 18]
    )
    assert_equal_models(model, expected)
    assert seen.epochs == whole.epochs
    assert seen.batches == whole.batches
    assert all(restored[1:])


CALLBACKS = {
    "EarlyStopping": lambda: [
        keras.callbacks.EarlyStopping("loss", min_delta=0.5, patience=2,
                                      restore_best_weights=True)
    ],
    "ReduceLROnPlateau": lambda: [
        keras.callbacks.ReduceLROnPlateau("loss", 0.5, 1, min_delta=0.1)
    ],
    "SwapEMAWeights": lambda: [
        keras.callbacks.SwapEMAWeights(swap_on_epoch=True)
    ],
    "diagnostics": lambda: [
        fr_keras.diagnostics.GradientNorm(),
        fr_keras.diagnostics.UpdateRatio(),
    ],
}


def some(names, *fast):
    """Parameters of which all but some are slow."""
    return [
        pytest.param(
            *(name if isinstance(name, tuple) else [name]),
            marks=() if name in fast else pytest.mark.slow,
        )
        for name in names
    ]


@pytest.mark.parametrize("callbacks", some(CALLBACKS, "EarlyStopping"))
def test_state_of_callbacks_goes_on(callbacks, tmp_path, deterministic):
    def make():
        return build(optimizer=lambda: keras.optimizers.Adam(
            0.01, use_ema=callbacks == "SwapEMAWeights"
        ))

    data = DATA["arrays"]
    expected, whole = trained(make, data, CALLBACKS[callbacks])
    model, seen, _ = killed_and_continued(
        tmp_path, make, data, [7, 5], CALLBACKS[callbacks]
    )
    assert_equal_models(model, expected)
    assert seen.epochs == whole.epochs
    if callbacks == "EarlyStopping":
        assert len(whole.epochs) < 4  # It did stop.


OPTIMIZERS = {
    "nadam": lambda: keras.optimizers.Nadam(0.01),
    "schedule": lambda: keras.optimizers.SGD(
        keras.optimizers.schedules.ExponentialDecay(0.1, 5, 0.5), 0.9,
        nesterov=True,
    ),
    "scaled": lambda: keras.optimizers.LossScaleOptimizer(
        keras.optimizers.SGD(0.1), initial_scale=2.0**127,
        dynamic_growth_steps=3,
    ),
    "several": lambda: keras.optimizers.MultiOptimizer(
        keras.optimizers.OptimizerMap(
            keras.optimizers.Adam(0.01),
            {".*bias": keras.optimizers.RMSprop(0.01)},
        )
    ),
    "accumulation": lambda: keras.optimizers.Adam(
        0.01, gradient_accumulation_steps=3
    ),
}


@pytest.mark.parametrize(
    "optimizer", some(OPTIMIZERS, "scaled", "accumulation")
)
def test_state_of_optimizers_goes_on(optimizer, tmp_path, deterministic):
    make = functools.partial(build, optimizer=OPTIMIZERS[optimizer])
    expected, whole = trained(make, DATA["dataset"])
    model, seen, _ = killed_and_continued(
        tmp_path, make, DATA["dataset"], [6, 5]
    )
    assert_equal_models(model, expected)
    assert seen.epochs == whole.epochs
    # Of 4 epochs of 15 batches, whatever an optimizer makes of them.
    newest = store.Store(tmp_path, 2).prefixes()[-1]
    assert store.read_manifest(newest)["position"]["step"] == 60
    assert model.optimizer.global_step == 60


@pytest.mark.parametrize("optimizer", some(OPTIMIZERS, "several"))
def test_look_ahead_goes_on(optimizer, tmp_path, deterministic):
    """With the last changes of weights that optimizers do not keep."""
    make = functools.partial(
        build, optimizer=OPTIMIZERS[optimizer], weight_prediction=True
    )
    expected, _ = trained(make, DATA["dataset"])
    model, *_ = killed_and_continued(tmp_path, make, DATA["dataset"], [6, 5])
    assert_equal_models(model, expected)


def test_steps_are_mini_batches(tmp_path):
    """Also where a step of the optimizer takes several of them."""
    model = build(steps=1, optimizer=lambda: keras.optimizers.SGD(
        0.1, gradient_accumulation_steps=3
    ))
    model.fit(shuffled(), verbose=0, callbacks=[fr_keras.Checkpoints(
        tmp_path, every_steps=4, every_epochs=None, monitor=None, keep=9
    )])
    assert [
        store.read_manifest(prefix)["position"]["step"]
        for prefix in store.Store(tmp_path, 2).prefixes()
    ] == [4, 8, 12, 15]


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["FeaturesReplay", "DDG"])
def test_queues_of_sequences_go_on(algorithm, tmp_path, deterministic):
    """Masks, ragged lengths, and lists of tensors that DDG's loops keep."""

    def net():
        keras.utils.set_random_seed(3)
        return keras.Sequential([
            keras.Input([None], dtype="int32"),
            layers.Embedding(20, 8, mask_zero=True),
            layers.GRU(8, return_sequences=True), layers.GRU(8),
            layers.Dense(4),
        ])

    def data():
        chance = np.random.default_rng(1)
        return {"x": tf.data.Dataset.from_generator(
            lambda: (
                (chance.integers(0, 20, (6, length)), chance.integers(0, 4, 6))
                for length in (5, 7, 5, 6, 7, 5, 6, 5)
            ),
            output_signature=(
                tf.TensorSpec([None, None], tf.int32),
                tf.TensorSpec([None], tf.int64),
            ),
        ).take(8).cache()}

    make = functools.partial(build, algorithm, 2, 2, net=net)
    expected, whole = trained(make, data)
    model, seen, _ = killed_and_continued(tmp_path, make, data, [6, 5])
    assert_equal_models(model, expected)
    assert seen.epochs == whole.epochs


@pytest.mark.parametrize(
    "data, steps",
    some(
        itertools.product(DATA, [1, 4]), ("unknown length", 4), ("repeated", 4)
    ),
)
def test_goes_on_in_validation(data, steps, tmp_path, deterministic):
    """A checkpoint after the last batch of an epoch, before its end."""

    class KillInTest(keras.callbacks.Callback):
        """Raises in validation after so many batches, if it comes so far."""

        def __init__(self, kept, after):
            super().__init__()
            self.kept = kept
            self.left = iter(range(after - 1))  # No state.

        def on_test_batch_end(self, batch, logs=None):
            if next(self.left, None) is None:
                assert self.kept.save()
                raise Killed

    def whole_data():
        return {
            "validation_data": (X[:40], Y[:40]), "validation_batch_size": 40,
            **DATA[data](),
        }

    make = functools.partial(build, steps=steps)
    expected, whole = trained(make, whole_data)
    # In the first epoch, again there, and in the next.
    for after in (1, 1, 2):
        model, seen = make(), Seen()
        kept = fr_keras.Checkpoints(tmp_path)
        with pytest.raises(Killed):
            model.fit(
                **whole_data(), epochs=4, verbose=0,
                callbacks=[kept, seen, KillInTest(kept, after)],
            )
    model, seen, _ = killed_and_continued(tmp_path, make, whole_data, [])
    assert_equal_models(model, expected)
    assert {**whole.epochs, **seen.epochs} == whole.epochs
    assert (0, 0) not in seen.batches


class PerEpoch(keras.callbacks.Callback):
    """Counts the batches of each epoch, in attributes of all kinds."""

    def on_epoch_begin(self, epoch, logs=None):
        self.count = 0

    def on_train_batch_end(self, batch, logs=None):
        self.count += 1

    def on_epoch_end(self, epoch, logs=None):
        self.found = {**getattr(self, "found", {}), epoch: self.count}


def test_an_epoch_that_goes_on_has_begun_once(tmp_path, deterministic):
    """A schedule that looks at the present rate, and sums of an epoch."""
    counters = []

    def callbacks():
        counters.append(PerEpoch())
        return [
            keras.callbacks.LearningRateScheduler(lambda epoch, lr: lr * 0.5),
            counters[-1],
        ]

    data = DATA["dataset"]
    expected, whole = trained(build, data, callbacks)
    model, seen, _ = killed_and_continued(
        tmp_path, build, data, [6, 5], callbacks
    )
    assert_equal_models(model, expected)
    assert seen.epochs == whole.epochs
    assert counters[-1].found == counters[0].found == dict.fromkeys(range(4), 4)


def test_finished_training_is_not_trained_again(tmp_path):
    model, _, _ = killed_and_continued(tmp_path, build, DATA["dataset"], [])
    again, seen, _ = killed_and_continued(tmp_path, build, DATA["dataset"], [])
    assert not seen.batches
    assert_equal_models(again, model)


def test_keeps_the_newest_and_the_best(tmp_path):
    values = iter([3.0, 1.0, 2.0, 1.5])
    killed_and_continued(
        tmp_path, build, DATA["dataset"], [], keep=2, monitor="quality",
        callbacks=lambda: [keras.callbacks.LambdaCallback(
            on_epoch_end=lambda epoch, logs: logs.update(quality=next(values))
        )],
    )
    newest = [store.read_manifest(p) for p in store.Store(
        tmp_path, 2
    ).prefixes()]
    assert [m["position"]["epoch"] for m in newest] == [3, 4]
    (best,) = store.Store(tmp_path / "best", 1).prefixes()
    assert store.read_manifest(best)["position"]["epoch"] == 2
    assert store.read_manifest(best)["best"] == 1.0


def test_best_that_could_not_be_written_is_not_the_best(tmp_path, monkeypatch):
    write, failed = store.Store.write, []

    def fail(self, *args):
        if self.directory.endswith("best") and len(failed) < 2:
            failed.append(True)
            raise OSError("no space left")
        return write(self, *args)

    monkeypatch.setattr(store.Store, "write", fail)
    values = iter([3.0, 1.0, 2.0, 2.5])
    killed_and_continued(
        tmp_path, build, DATA["dataset"], [], monitor="quality",
        callbacks=lambda: [keras.callbacks.LambdaCallback(
            on_epoch_end=lambda epoch, logs: logs.update(quality=next(values))
        )],
    )
    (best,) = store.Store(tmp_path / "best", 1).prefixes()
    assert store.read_manifest(best)["best"] == 2.0


def test_weights_that_are_not_finite_are_not_kept(tmp_path, caplog):
    """Nor are they the best, whatever the monitored value says."""
    class Spoil(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            logs["quality"] = 3.0 - epoch
            if epoch == 1:
                bias = self.model.modules[1].weights[-1]
                bias.assign(bias * np.nan)

    model = build("Backprop")
    kept = fr_keras.Checkpoints(tmp_path, monitor="quality")
    model.fit(
        shuffled(), epochs=4, verbose=0, callbacks=[Spoil(), kept]
    )
    assert kept.best == 3.0
    for folder in (tmp_path, tmp_path / "best"):
        (prefix,) = store.Store(folder, 2).prefixes()
        assert store.read_manifest(prefix)["position"]["epoch"] == 1
    assert caplog.text.count("No checkpoint is written") == 1
    assert "of module 2 is not finite" in caplog.text


def test_an_epoch_that_was_skipped_is_not_the_best(tmp_path):
    class Spoil(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            bad.assign(epochs[-1] == 1)

        def on_epoch_begin(self, epoch, logs=None):
            epochs.append(epoch)

    bad, epochs = tf.Variable(False), []
    model = build("Backprop")
    model.compile("sgd", lambda y, y_pred: tf.where(
        bad.read_value(), np.nan, tf.reduce_mean(tf.square(y_pred), axis=-1)
    ))
    kept = fr_keras.Checkpoints(tmp_path, monitor="loss")
    history = model.fit(
        shuffled(), epochs=3, verbose=0,
        callbacks=[Spoil(), fr_keras.OnNaN("skip"), kept],
    ).history
    assert np.isnan(history["loss"]).tolist() == [False, True, False]
    assert kept.best == history["loss"][2]


def test_checkpoints_by_time(tmp_path, monkeypatch):
    now = iter(range(0, 10_000, 30))
    monkeypatch.setattr(
        "fr_keras.callbacks.checkpoints.intervals.time",
        types.SimpleNamespace(monotonic=lambda: next(now)),
    )
    model = build()
    kept = fr_keras.Checkpoints(
        tmp_path, every_minutes=1.0, every_epochs=None, monitor=None, keep=100
    )
    model.fit(shuffled(), epochs=2, verbose=0, callbacks=[
        kept, keras.callbacks.LambdaCallback(
            on_train_batch_begin=lambda *_, **__: kept.after_fit()
        ),
    ])
    # The time is looked at after each of 8 calls, 30 s apart by this clock; and
    # there is one when training ends.
    steps = [
        store.read_manifest(prefix)["position"]["step"]
        for prefix in store.Store(tmp_path, 2).prefixes()
    ]
    assert steps == [8, 15, 23, 30, 30]


def test_logs_are_cut_back(tmp_path):
    logs = tmp_path / "logs"

    def callbacks():
        return [
            keras.callbacks.TensorBoard(logs),
            keras.callbacks.CSVLogger(tmp_path / "log.csv", append=True),
        ]

    class KillAtEnd(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 2:
                raise Killed

    # The third epoch is logged, but there is no checkpoint of it.
    model = build()
    with pytest.raises(Killed):
        model.fit(shuffled(), epochs=4, verbose=0, callbacks=[
            *callbacks(), fr_keras.Checkpoints(tmp_path / "kept"), KillAtEnd(),
        ])
    killed_and_continued(
        tmp_path / "kept", build, DATA["dataset"], [], callbacks
    )
    lines = (tmp_path / "log.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in lines] == ["epoch", *"0123"]
    steps = [
        event.step
        for file in sorted((logs / "train").iterdir())
        for event in tf.compat.v1.train.summary_iterator(str(file))
        for value in event.summary.value if value.tag == "epoch_loss"
    ]
    assert steps == [0, 1, 2, 3]


def test_logs_of_other_callbacks_are_left_alone(tmp_path):
    """Callbacks that were not there at the checkpoint keep what they have."""
    def logger():
        return keras.callbacks.CSVLogger(tmp_path / "log.csv", append=True)

    model = build()
    with pytest.raises(Killed):
        model.fit(shuffled(), epochs=4, verbose=0, callbacks=[
            keras.callbacks.TensorBoard(tmp_path / "logs"),
            fr_keras.Checkpoints(tmp_path / "kept"), Kill(6),
        ])
    (tmp_path / "log.csv").write_text("epoch,loss\n7,8\n")
    before = {p: p.read_bytes() for p in (tmp_path / "logs/train").iterdir()}
    build().fit(shuffled(), epochs=4, verbose=0, callbacks=[
        logger(), keras.callbacks.TensorBoard(tmp_path / "logs"),
        fr_keras.Checkpoints(tmp_path / "kept"),
    ])
    assert (tmp_path / "log.csv").read_text().startswith("epoch,loss\n7,8\n")
    for path, data in before.items():
        assert data.startswith(path.read_bytes()) and path.stat().st_size


def test_weights_for_another_number_of_modules(tmp_path):
    model, _, _ = killed_and_continued(tmp_path, build, DATA["dataset"], [])
    for algorithm, num_modules in (("FeaturesReplay", 4), ("Backprop", 2)):
        other = build(algorithm, num_modules)
        prefix = fr_keras.restore_weights(other, tmp_path)
        assert prefix == store.Store(tmp_path, 2).prefixes()[-1]
        for a, b in zip(other.weights, model.weights, strict=True):
            np.testing.assert_array_equal(a, b)
        assert int(other.optimizer.iterations) == 0
        other.fit(shuffled(), verbose=0)


def test_restore_weights_needs_weights_that_fit(tmp_path):
    with pytest.raises(ValueError, match="without checkpoints$"):
        fr_keras.restore_weights(build(), tmp_path)
    killed_and_continued(tmp_path, build, DATA["dataset"], [])
    other = fr_keras.Backprop(keras.Sequential([
        keras.Input([8]), layers.Dense(17), layers.Dense(4),
    ]), 2)
    with pytest.raises(
        ValueError,
        match=r"another network.*shape \[8, 16\].*Received:.*shape \[8, 17\]",
    ):
        fr_keras.restore_weights(other, tmp_path)
    for prefix in store.Store(tmp_path, 2).prefixes():
        open(f"{prefix}.index", "w").close()
    with pytest.raises(ValueError, match="can be read.*ckpt-"):
        fr_keras.restore_weights(build(), tmp_path)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The directory of a training of `build()`."""
    folder = tmp_path_factory.mktemp("finished")
    build().fit(
        shuffled(), verbose=0, callbacks=[fr_keras.Checkpoints(folder)]
    )
    return folder


def excluding_biases():
    optimizer = keras.optimizers.Adam(0.01)
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    return optimizer


def frozen():
    net = network()
    net.layers[0].trainable = False
    return net


def test_what_a_training_that_goes_on_may_do_otherwise(finished, tmp_path):
    """Names, seeds, and the learning rate, which callbacks may have set."""
    def renamed():
        return keras.models.clone_model(
            network(), clone_function=lambda layer: type(layer).from_config({
                **layer.get_config(), "name": f"other_{layer.name}",
                **({"seed": 4} if "dropout" in layer.name else {}),
            })
        )

    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    model = build(
        net=renamed,
        optimizer=lambda: keras.optimizers.Adam(0.7, name="another"),
    )
    kept = fr_keras.Checkpoints(tmp_path)
    model.fit(shuffled(), verbose=0, callbacks=[kept])
    assert kept.restored
    assert float(model.optimizer.learning_rate) == pytest.approx(0.01)


@keras.saving.register_keras_serializable("tests")
class Scale(layers.Layer):
    """A layer whose `get_config` does not work as it is."""

    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def get_config(self):
        raise NotImplementedError

    def call(self, x):
        return x * self.factor


class OtherScale(Scale):
    pass


def test_layers_without_configuration_are_compared_by_class(tmp_path):
    def make(kind):
        keras.utils.set_random_seed(2)
        model = fr_keras.Backprop([
            keras.Sequential([keras.Input([8]), layers.Dense(8), kind(2.0)]),
            keras.Sequential([keras.Input([8]), layers.Dense(4)]),
        ])
        model.compile("adam", keras.losses.SparseCategoricalCrossentropy(
            from_logits=True
        ))
        return model

    for _ in range(2):
        kept = fr_keras.Checkpoints(tmp_path)
        make(Scale).fit(shuffled(), verbose=0, callbacks=[kept])
    assert kept.restored
    with pytest.raises(
        fr_keras.CheckpointError,
        match="network, which has 'Scale'. Received: 'OtherScale'",
    ):
        make(OtherScale).fit(
            shuffled(), verbose=0, callbacks=[fr_keras.Checkpoints(tmp_path)]
        )


def test_weights_of_another_function(finished):
    with pytest.raises(
        ValueError,
        match="does not fit. It is of another network, which has Dense with "
        "activation='relu'. Received: Dense with activation='tanh'$",
    ):
        fr_keras.restore_weights(
            build("Backprop", 2, net=lambda: network("tanh")), finished
        )


def test_weights_of_the_same_function(finished):
    """In other modules, nested, with other regularization."""
    whole = network(rate=0.1, kernel_regularizer="l2")
    parts = [
        keras.Sequential([keras.Input([8]), *whole.layers[:2]]),
        keras.Sequential([
            keras.Input([16]), whole.layers[2],
            keras.Sequential(whole.layers[3:]),
        ]),
    ]
    model, plain = fr_keras.Backprop(parts), build()
    for each in (model, plain):
        fr_keras.restore_weights(each, finished)
    np.testing.assert_allclose(
        model.predict(X, verbose=0), plain.predict(X, verbose=0), rtol=1e-5
    )


def cut_elsewhere():
    net = network()
    costs = {layer.name: 1.0 for layer in net.layers}
    costs[net.layers[0].name] = 1e9  # So it gets a module of its own.
    return build(net=lambda: net, costs=costs)


@pytest.mark.parametrize(
    "other, message",
    [
        (lambda: build("DDG"),
         "algorithm=FeaturesReplay.*restore_weights.*Received: algorithm=DDG"),
        (lambda: build(num_modules=2),
         "num_modules=3.*restore_weights.*Received: num_modules=2"),
        (lambda: build(net=lambda: keras.Sequential([
            keras.Input([8]), layers.Dense(16), layers.Dense(16),
            layers.Dense(4),
        ])), "another network"),
        (cut_elsewhere,
         r"another cut.*Received: \[2, ., .\] in place of \[., ., .\]"),
        (lambda: build(optimizer=lambda: keras.optimizers.SGD(0.1)),
         "another optimizer"),
        (lambda: build(optimizer=lambda: keras.optimizers.AdamW(
            0.01
        )), "another optimizer, which has 'Adam'; its weights alone can be "
            "taken over, by `restore_weights`. Received: 'AdamW'$"),
        (lambda: build(optimizer=lambda: keras.optimizers.Adam(
            0.01, weight_decay=0.1
        )), "optimizer, which has Adam with weight_decay=None; its.*Received: "
            "Adam with weight_decay=0.1$"),
        (lambda: build(optimizer=excluding_biases),
         "another optimizer.*Received: .*'bias'"),
        (lambda: build(net=lambda: network("tanh")),
         "another network, which has Dense with activation='relu'. "
         "Received: Dense with activation='tanh'$"),
        (lambda: build(net=lambda: network(rate=0.5)),
         "which has Dropout with rate=0.3. Received: Dropout with rate=0.5$"),
        (lambda: build(net=frozen), "another choice of what is trained"),
        (lambda: build(gradient_shrink=0.5),
         "settings.*gradient_shrink=1.*Received: gradient_shrink=0.5$"),
    ],
)
def test_checkpoint_of_another_model_is_refused(
    other, message, finished, tmp_path
):
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    before = {path: path.read_bytes() for path in tmp_path.glob("*ckpt*")}
    model = other()
    weights = [w.numpy() for w in model.weights]
    with pytest.raises(fr_keras.CheckpointError, match=message):
        model.fit(
            shuffled(), verbose=0,
            callbacks=[fr_keras.Checkpoints(tmp_path)],
        )
    for a, b in zip(model.weights, weights):
        np.testing.assert_array_equal(a, b)
    assert before == {p: p.read_bytes() for p in tmp_path.glob("*ckpt*")}


def test_checkpoint_of_another_format_is_refused(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(manifest, "FORMAT", 1)
        killed_and_continued(tmp_path, build, DATA["dataset"], [])
    with pytest.raises(
        fr_keras.CheckpointError,
        match=r"format must be 2.*Received: format 1, .* \{'fr_keras': '\d",
    ):
        killed_and_continued(tmp_path, build, DATA["dataset"], [])


def test_checkpoint_of_another_version_is_told(tmp_path, monkeypatch, caplog):
    with monkeypatch.context() as patch:
        patch.setattr(
            "fr_keras.callbacks.checkpoints.manifest.versions",
            lambda: {"fr_keras": "0.0.1", "keras": "3.1", "tensorflow": "2.1"},
        )
        killed_and_continued(tmp_path, build, DATA["dataset"], [])
    killed_and_continued(tmp_path, build, DATA["dataset"], [])
    assert (
        "was written with fr_keras 0.0.1, keras 3.1, tensorflow 2.1; with "
        f"fr_keras {fr_keras.__version__}, keras {keras.__version__}, "
        f"tensorflow {tf.__version__}, results may"
    ) in caplog.text


@pytest.mark.parametrize(
    "argument",
    [
        {"every_steps": 0}, {"every_epochs": 0}, {"every_minutes": 0},
        {"every_minutes": float("nan")}, {"keep": 1}, {"mode": "most"},
    ],
)
def test_nonsense_is_refused(argument):
    (name,) = argument
    with pytest.raises(ValueError, match=rf"`{name}` must.*Received: {name}="):
        fr_keras.Checkpoints("nowhere", **argument)


def test_models_that_cannot_be_kept(tmp_path):
    model = build()
    model.compile("sgd", "mse", run_eagerly=True)
    with pytest.raises(ValueError, match="Received: run_eagerly=True"):
        model.fit(X, Y, callbacks=[fr_keras.Checkpoints(tmp_path)])


def test_algorithm_that_does_not_name_its_state(tmp_path):
    class Forgetful(fr_keras.Backprop.pipeline_class):
        def make_state(self):
            self.counter = tf.Variable(0)

    class Forgets(fr_keras.Backprop):
        pipeline_class = Forgetful

    model = Forgets(network(), 2)
    model.compile("sgd", "mse")
    with pytest.raises(
        ValueError, match="by `state_variables`. Received: Forgetful"
    ):
        model.fit(X, Y, callbacks=[fr_keras.Checkpoints(tmp_path)], verbose=0)


@pytest.mark.parametrize(
    "callback", [fr_keras.Checkpoints("nowhere"), fr_keras.OnNaN()]
)
def test_models_of_others(callback):
    model = network()
    model.compile("sgd", "mse")
    with pytest.raises(
        ValueError, match="requires a model of fr_keras.*type Sequential"
    ):
        model.fit(X, Y, callbacks=[callback], verbose=0)
