"""A training that resumes from a checkpoint ends as if never interrupted."""

import functools
import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import fr_keras
from fr_keras.callbacks.checkpoints import store
from tests.killed_trainings import (
    DATA,
    Killed,
    Seen,
    X,
    Y,
    assert_equal_models,
    build,
    killed_and_continued,
    trained,
)

ALGORITHMS = [
    "FeaturesReplay", "DDG", "DNI", "GPipe", "Pipeline", "Backprop"
]
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
@pytest.mark.quick_cases("FeaturesReplay-dataset-4")
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
@pytest.mark.quick_cases("accumulation")
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
@pytest.mark.quick_cases("repeated-4")
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
