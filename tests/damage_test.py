"""Checkpoints that are damaged, or made to do harm."""

import json
import os
import pathlib
import pickle
import shutil
import subprocess
import sys
import zipfile

import keras
import pytest
import tensorflow as tf
from keras import layers

import fr_keras
from fr_keras.callbacks.checkpoints import callback_state, store
from tests.command_line import ROOT
from tests.faults.checkpoints import flip
from tests.killed_trainings import (
    assert_equal_models,
    build,
    shuffled,
    trained,
)


@pytest.fixture(scope="module")
def trainings(tmp_path_factory):
    """A directory with checkpoints, and what training ends with."""
    folder = tmp_path_factory.mktemp("trainings")
    keras.utils.set_random_seed(1)
    model, _ = trained(build, lambda: {"x": shuffled()})
    kept = build()
    kept.fit(
        shuffled(), epochs=3, verbose=0,
        callbacks=[fr_keras.Checkpoints(folder, monitor=None)],
    )
    return folder, model


@pytest.fixture
def folder(trainings, tmp_path):
    shutil.copytree(trainings[0], tmp_path / "kept")
    return tmp_path / "kept"


def go_on(folder):
    """Goes on to the end; returns the model and where it began."""
    model, kept = build(), fr_keras.Checkpoints(folder, monitor=None)
    model.fit(shuffled(), epochs=4, verbose=0, callbacks=[kept])
    return model, os.path.basename(kept.restored)


def truncate_data(folder):
    os.truncate(folder / "ckpt-3.data-00000-of-00001", 1000)


def flip_data(folder):
    flip(folder / "ckpt-3.data-00000-of-00001")


def flip_index(folder):
    flip(folder / "ckpt-3.index")


def truncate_index(folder):
    os.truncate(folder / "ckpt-3.index", 100)


def remove_data(folder):
    (folder / "ckpt-3.data-00000-of-00001").unlink()


def remove_index(folder):
    (folder / "ckpt-3.index").unlink()


def put_pickle(folder):
    (folder / "ckpt-3.index").write_bytes(pickle.dumps(Harm(folder)))


class Harm:
    """Makes a directory when it is unpickled."""

    def __init__(self, folder):
        self.path = str(folder / "harm")

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize(
    "damage",
    [truncate_data, flip_data, flip_index, truncate_index, remove_data,
     remove_index, put_pickle],
)
@pytest.mark.quick_cases("flip_data", "truncate_index")
def test_the_one_before_is_used(damage, folder, trainings, caplog):
    damage(folder)
    model, restored = go_on(folder)
    assert restored == "ckpt-2"
    assert_equal_models(model, trainings[1])
    if damage is not remove_index:  # Without it, there is no checkpoint.
        assert "ckpt-3 cannot be read: " in caplog.text
        assert "; trying the one before it" in caplog.text
    assert not (folder / "harm").exists()


def test_none_can_be_read(folder):
    for path in folder.glob("ckpt-*.index"):
        path.write_bytes(b"")
    before = sorted(path.name for path in folder.iterdir())
    with pytest.raises(
        fr_keras.CheckpointError, match="must be readable; to start from"
    ):
        go_on(folder)
    assert sorted(path.name for path in folder.iterdir()) == before


@pytest.mark.parametrize("harm", ["outside", "damaged", "missing"])
@pytest.mark.quick_cases("outside")
def test_list_of_checkpoints_is_not_believed(
    harm, folder, trainings, tmp_path
):
    """TensorFlow's manager would delete what a hostile list names."""
    precious = tmp_path / "precious.index"
    precious.write_text("precious")
    if harm == "outside":
        names = ["../precious"] * 5 + ["ckpt-3"]
        (folder / "checkpoint").write_text(
            'model_checkpoint_path: "ckpt-3"\n' + "".join(
                f'all_model_checkpoint_paths: "{name}"\n'
                f"all_model_checkpoint_timestamps: {i + 1.0}\n"
                for i, name in enumerate(names)
            ) + "last_preserved_timestamp: 0.5\n"
        )
    elif harm == "damaged":
        (folder / "checkpoint").write_bytes(b"\xff\x00garbage")
    else:
        (folder / "checkpoint").unlink()
    model, restored = go_on(folder)
    assert restored == "ckpt-3"
    assert_equal_models(model, trainings[1])
    assert precious.read_text() == "precious"


@pytest.mark.parametrize(
    "entry, value",
    [
        ("position", None), ("best", "best"), ("batch_spec", "AAAA!"),
        ("callbacks", []), ("logs", 3), ("num_arrays", "many"),
        ("callbacks", {"EarlyStopping_0": 5}),
        ("callbacks", {"EarlyStopping_0": {}}),
        ("callbacks", {"EarlyStopping_0": {"dict": 5}}),
        ("callbacks", {"EarlyStopping_0": {"dict": [["wait", {"array": 9}]]}}),
        ("callbacks", {"EarlyStopping_0": {"dict": [[3, 4]]}}),
        ("batch_spec", ""), ("logs", {"logs_0": 3}),
        ("logs", {"logs_0": {"a": "b"}}), ("logs", {"logs_0": {"a": -1}}),
        ("model", {"algorithm": "FeaturesReplay", "num_modules": 2}),
        ("model", {
            "algorithm": "FeaturesReplay", "num_modules": 2, "network": [3],
        }),
    ],
)
def test_manifest_is_checked(entry, value, folder):
    prefix = str(folder / "ckpt-3")
    manifest = {**store.read_manifest(prefix), entry: value}
    tf.train.Checkpoint(manifest=tf.Variable(json.dumps(manifest))).write(
        prefix
    )
    with pytest.raises(
        fr_keras.CheckpointError, match="ckpt-3 cannot be restored. .*Received"
    ):
        go_on(folder)


def test_state_sets_nothing_else_of_callbacks(folder, tmp_path):
    """A manifest cannot redirect what a callback was told to write."""
    callback = keras.callbacks.ModelCheckpoint(tmp_path / "here.keras")
    logs = keras.callbacks.TensorBoard(tmp_path / "here")
    logs._val_dir = str(tmp_path / "here")
    state = callback_state.CallbackState([callback, logs])
    state.set({
        "ModelCheckpoint_0": {
            "filepath": str(tmp_path / "there.keras"), "_model": 3,
            "best": 1.5, "on_epoch_end": 4, "__class__": 5, "a b": 6,
        },
        "TensorBoard_0": {"_val_dir": str(tmp_path / "there")},
    })
    assert callback.filepath == str(tmp_path / "here.keras")
    assert logs._val_dir == str(tmp_path / "here")
    assert not {"on_epoch_end", "a b"} & vars(callback).keys()
    assert callback.best == 1.5


@pytest.mark.parametrize("value", ["x", [1], {"a": 1}])
def test_state_of_another_kind_is_refused(value):
    callback = keras.callbacks.EarlyStopping()
    callback.wait = 2
    state = callback_state.CallbackState([callback])
    with pytest.raises(ValueError, match="must match.*wait=2. Received: wait="):
        state.set({"EarlyStopping_0": {"wait": value}})


def test_arguments_of_a_base_class_are_no_state(tmp_path):
    class Mine(keras.callbacks.ModelCheckpoint):
        def __init__(self, **kwargs):
            super().__init__(tmp_path / "here.keras", **kwargs)

    callback = Mine(save_freq="epoch")
    callback_state.CallbackState([callback]).set(
        {"Mine_0": {"filepath": 3, "verbose": 7, "best": 0.5}}
    )
    assert callback.filepath == str(tmp_path / "here.keras")
    assert (callback.verbose, callback.best) == (0, 0.5)


def test_parts_of_a_killed_process_are_removed(folder):
    (folder / "ckpt-4_temp").mkdir()
    for name in (
        "ckpt-4_temp/part-00000-of-00001.index",
        "ckpt-4.data-00000-of-00001", "ckpt-9.data-00000-of-00001.tempstate7",
        "ckpt-notes.txt",
    ):
        (folder / name).write_bytes(b"part")
    model, restored = go_on(folder)
    assert restored == "ckpt-3"
    assert {path.name for path in folder.iterdir()} == {
        "checkpoint", "ckpt-notes.txt", *(
            f"ckpt-{n}.{part}" for n in (2, 3, 4)
            for part in ("index", "data-00000-of-00001")
        ),
    }


def test_no_space_left(folder, trainings, monkeypatch, caplog):
    """Old checkpoints stay, parts of new ones do not, it is told once."""
    failing = iter([True, True, False])
    write = tf.train.Checkpoint.write

    def fail(checkpoint, prefix, options):
        if next(failing, False):
            part = pathlib.Path(f"{prefix}_temp")
            part.mkdir()
            pathlib.Path(f"{prefix}.data-00000-of-00001").write_bytes(b"")
            raise tf.errors.ResourceExhaustedError(
                None, None, f"{part}; No space left on device"
            )
        return write(checkpoint, prefix, options)

    monkeypatch.setattr(tf.train.Checkpoint, "write", fail)
    model, kept = build(), fr_keras.Checkpoints(
        folder, every_steps=4, monitor=None
    )
    present = []
    model.fit(shuffled(), epochs=4, verbose=0, callbacks=[
        kept, keras.callbacks.LambdaCallback(
            on_train_batch_begin=lambda *_, **__: present.append(
                kept.after_fit() or sorted(
                    path.name for path in folder.iterdir()
                )
            )
        ),
    ])
    assert_equal_models(model, trainings[1])
    # Before each of four calls: after the first two nothing has changed.
    assert present[0] == present[1] == present[2] != present[3]
    assert caplog.text.count("No space left on device") == 1
    assert caplog.text.count("Checkpoints can be written again") == 1


def test_a_real_full_disk(tmp_path):
    """In a process that may not write large files."""
    program = f"""
import resource, signal
import keras, numpy as np, fr_keras
model = fr_keras.FeaturesReplay(keras.Sequential([
    keras.Input([100]), keras.layers.Dense(1000), keras.layers.Dense(1),
]), 2)
model.compile("sgd", "mse")
x, y = np.zeros((40, 100)), np.zeros((40, 1))
class Limit(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        size = 100_000 if epoch == 1 else resource.RLIM_INFINITY
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, -1))
model.fit(x, y, epochs=3, verbose=0, callbacks=[
    Limit(), fr_keras.Checkpoints({str(tmp_path)!r}, keep=2)])
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True,
        env={**os.environ, "KERAS_BACKEND": "tensorflow"}, timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "File too large" in done.stderr
    assert "Checkpoints can be written again" in done.stderr
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {
        "checkpoint", *(
            f"ckpt-{n}.{part}" for n in (1, 2)
            for part in ("index", "data-00000-of-00001")
        ),
    }


def test_training_that_is_not_finite_is_not_kept(tmp_path):
    model = build()
    model.fit(shuffled(), verbose=0, callbacks=[fr_keras.Checkpoints(tmp_path)])
    spoiled = shuffled().map(lambda x, y: (x * float("nan"), y))
    # (Dense layers with relu turn NaN into 0: without, it comes through.)
    model = build(net=lambda: keras.Sequential([
        keras.Input([8]), layers.Dense(4), layers.Dense(4), layers.Dense(4),
    ]))
    kept = fr_keras.Checkpoints(tmp_path / "none", every_steps=1)
    model.fit(spoiled, verbose=0, callbacks=[kept])
    assert not (tmp_path / "none").exists()
    assert not kept.save()


def harmful_lambda(path):
    """A network with a layer of compiled Python code."""
    code = f"lambda x: __import__('os').mkdir({str(path)!r}) or x"
    keras.Sequential([
        keras.Input([8]), layers.Lambda(eval(code), output_shape=(8,)),
    ]).save(path.parent / "harm.keras")


def harmful_class(path):
    """A network with a layer whose class is a way to run programs."""
    good, bad = path.parent / "good.keras", path.parent / "harm.keras"
    keras.Sequential([keras.Input([8]), layers.Dense(4)]).save(good)
    with zipfile.ZipFile(good) as source, zipfile.ZipFile(bad, "w") as target:
        for name in source.namelist():
            data = source.read(name)
            if name == "config.json":
                config = json.loads(data)
                config["config"]["layers"][1] = {
                    "module": "subprocess", "class_name": "Popen",
                    "config": {"args": ["mkdir", str(path)]},
                    "registered_name": None,
                }
                data = json.dumps(config)
            target.writestr(name, data)


@pytest.mark.parametrize("make", [harmful_lambda, harmful_class])
def test_hostile_network_runs_no_code(make, tmp_path):
    """In a process of its own: a command line defines its flags."""
    make(tmp_path / "harm")
    shutil.rmtree(tmp_path / "harm", ignore_errors=True)  # Of making it.
    path = str(tmp_path / "harm.keras")
    program = f"""
from trainers import evaluate
from trainers.command import errors
errors.parse_flags(["evaluate", "--workdir=unused"])
try:
    evaluate.load_network({path!r}, None)
except errors.UsageError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True,
        text=True, timeout=300, check=True,
    )
    assert "harm.keras cannot be loaded" in done.stdout
    assert not (tmp_path / "harm").exists()
