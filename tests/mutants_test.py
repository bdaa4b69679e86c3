"""Manifests of checkpoints that say anything: refused in one line, or lived.

What a manifest holds comes from outside. Of one that says something else than
what was written, training must end by `CheckpointError`, or go on: not by
another error, not by hanging, not by writing elsewhere.
"""

import collections
import copy
import json
import random
import shutil
import signal

import keras
import numpy as np
import pytest
from keras import layers

import fr_keras
from fr_keras.callbacks.checkpoints import callback_state, store

X = np.random.default_rng(0).normal(size=(48, 8)).astype("float32")
VALUES = [
    None, True, False, -1, 0, 1, 7, 2**40, 10**30, 1.5, float("nan"),
    float("inf"), "", "x", "/etc/passwd", "../up", "\0", "x" * 5000, [], [[]],
    {}, {"dict": []}, {"array": 0}, {"array": 10**9}, {"array": -1}, [None],
    {"tuple": [1]}, {"__class__": "x"}, [1, [2, [3, [4, [5]]]]],
]


def build():
    keras.utils.set_random_seed(0)
    model = fr_keras.FeaturesReplay(keras.Sequential([
        keras.Input([8]), layers.Dense(4, "tanh"), layers.Dropout(0.5),
        layers.Dense(1),
    ]), num_modules=2)
    model.compile(keras.optimizers.Adam(0.01), "mse", steps_per_execution=2)
    return model


def fit(model, folder, *callbacks):
    model.fit(
        X, X[:, :1], batch_size=8, epochs=3, verbose=0, callbacks=[
            keras.callbacks.EarlyStopping("loss", patience=9),
            keras.callbacks.CSVLogger(folder / "log.csv", append=True),
            fr_keras.Checkpoints(folder, every_steps=2, monitor="loss"),
            *callbacks,
        ],
    )


class Killed(Exception):
    pass


class Kill(keras.callbacks.Callback):
    """Ends training in the second of three epochs."""

    def on_train_batch_end(self, batch, logs=None):
        if self.model.optimizer.global_step == 10:
            raise Killed


def mutant(manifest, chance):
    """A manifest with something else in one to three places, and where."""
    manifest = copy.deepcopy(manifest)
    changed = []
    for _ in range(chance.choice([1, 1, 1, 2, 3])):
        here, where = manifest, []
        while True:
            key = chance.choice(
                [*here] if isinstance(here, dict) else range(len(here))
            )
            where.append(key)
            inside = here[key]
            if not isinstance(inside, dict | list) or not inside or (
                chance.random() < 0.2
            ):
                break
            here = inside
        if chance.random() < 0.15:
            del here[key]
            changed.append((where, "deleted"))
        else:
            kind = type(inside)
            here[key] = chance.choice(VALUES if chance.random() < 0.4 else [
                value for value in VALUES if type(value) is kind
            ] or VALUES)
            changed.append((where, here[key]))
        if not manifest:
            break
    return manifest, changed


class Hangs(BaseException):
    """It took too long."""


def hang(*_):
    raise Hangs


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A directory with the checkpoints of a training that was killed."""
    folder = tmp_path_factory.mktemp("kept")
    with pytest.raises(Killed):
        fit(build(), folder, Kill())
    return folder


@pytest.mark.parametrize(
    ("where", "value", "complaint"),
    [
        (["model", "replicas"], float("nan"), "number of replicas"),
        (["model", "replicas"], 0, "number of replicas"),
        (["num_arrays"], -1, "number of arrays"),
        (["callbacks", "EarlyStopping_0", "dict"], [["best", 10**30]],
         "must match that of the callback, which has best="),
    ],
)
def test_what_mutants_found(
    kept, tmp_path, monkeypatch, where, value, complaint
):
    shutil.copytree(kept, tmp_path / "run")
    read = store.read_manifest

    def read_mutant(prefix):
        manifest = here = read(prefix)
        *parents, last = where
        for key in parents:
            here = here[key]
        assert last in here
        here[last] = value
        return manifest

    monkeypatch.setattr(store, "read_manifest", read_mutant)
    with pytest.raises(fr_keras.CheckpointError, match=complaint):
        fit(build(), tmp_path / "run")


@pytest.mark.parametrize("index", [-1, 1, 0.0])
def test_arrays_that_do_not_exist(index):
    state = {"dict": [["best", {"array": index, "scalar": False}]]}
    with pytest.raises(ValueError, match="state of callbacks is damaged"):
        callback_state.decoded({"EarlyStopping_0": state}, [np.zeros(3)])


@pytest.mark.parametrize("number", [
    15, pytest.param(500, marks=pytest.mark.slow)
])
def test_no_manifest_breaks_a_training(number, kept, tmp_path, monkeypatch):
    model = build()
    read = store.read_manifest
    chance = random.Random(number)
    changed = []

    def read_mutant(prefix):
        found, where = mutant(read(prefix), chance)
        changed.append(where)
        # As it would be read from a file.
        return json.loads(json.dumps(found))

    before = signal.signal(signal.SIGALRM, hang)
    counts, wrong = collections.Counter(), []
    try:
        for i in range(number):
            changed.clear()
            folder = tmp_path / str(i)
            shutil.copytree(kept, folder)
            monkeypatch.setattr(store, "read_manifest", read_mutant)
            signal.alarm(300)
            try:
                fit(model, folder)
                counts["went on"] += 1
            except fr_keras.CheckpointError as error:
                counts["refused"] += 1
                if len(str(error).splitlines()) != 1:
                    wrong.append((changed[:], str(error)))
            except (Exception, Hangs) as error:
                wrong.append((changed[:], repr(error)))
            finally:
                signal.alarm(0)
                monkeypatch.setattr(store, "read_manifest", read)
                shutil.rmtree(folder, ignore_errors=True)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert not wrong, f"{len(wrong)}: " + "\n".join(
        f"{where!r:.300} {told:.300}" for where, told in wrong
    )
    assert min(counts["refused"], counts["went on"]) > number / 20, counts
