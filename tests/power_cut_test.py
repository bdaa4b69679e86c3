"""A power cut, after which a disk holds only what was made to stay."""

import csv
import os
import shutil
import subprocess
import sys

import pytest
import tensorflow as tf

from fr_keras.callbacks.checkpoints import durable, snapshot, store
from tests import disks
from tests.command_line import ROOT, command, start
from trainers.command import workdir


def test_nothing_is_deleted_before_the_new_one_stays(tmp_path, monkeypatch):
    """Every file of a checkpoint, then its directory, then deletions."""
    done = []
    sync, remove = durable.sync, os.remove
    monkeypatch.setattr(
        durable, "sync",
        lambda path: (sync(path), done.append(("sync", str(path)))),
    )
    monkeypatch.setattr(
        os, "remove",
        lambda path: (remove(path), done.append(("remove", str(path)))),
    )
    kept = store.Store(tmp_path, keep=1)
    values = snapshot.Reader().read({"weights": [tf.Variable([1.0, 2.0])]})
    kept.write(snapshot.Snapshot(values, {"step": 1}))
    done.clear()
    prefix = kept.write(snapshot.Snapshot(values, {"step": 2}))
    data = ".data-00000-of-00001"
    assert done == [
        ("sync", f"{prefix}.index"), ("sync", prefix + data),
        ("sync", str(tmp_path)),
        ("remove", f"{tmp_path}/ckpt-1.index"),
        ("remove", f"{tmp_path}/ckpt-1{data}"),
    ]
    done.clear()
    with workdir.replaced(str(tmp_path / "flags.cfg")) as part:
        with open(part, "w") as file:
            file.write("--seed=1\n")
    assert done == [("sync", part), ("sync", str(tmp_path))]


def mounted(image, at):
    return disks.mounted(image, at, "-o", "loop")


@pytest.fixture
def image(tmp_path):
    try:
        disks.image(tmp_path / "disk")
        with mounted(tmp_path / "disk", tmp_path / "tried"):
            return tmp_path / "disk"
    except disks.Impossible as reason:
        pytest.skip(str(reason))


WRITING = """
import sys
import tensorflow as tf
from fr_keras.callbacks.checkpoints import snapshot, store
from trainers.command import workdir

folder = sys.argv[1] + "/run"
kept = store.Store(folder, keep=2)
for step in range(4):
    weights = tf.Variable(tf.fill([100_000], float(step)))
    values = snapshot.Reader().read({"w": [weights]})
    kept.write(snapshot.Snapshot(values, {"step": step}))
    with workdir.replaced(folder + "/flags.cfg") as part:
        with open(part, "w") as file:
            file.write(f"--seed={step}")
    print(step, flush=True)
    sys.stdin.readline()
"""


def test_what_was_written_is_on_the_disk(image, tmp_path):
    """A copy of the disk that is taken whenever a write has returned."""
    with mounted(image, tmp_path / "mounted") as at:
        process = subprocess.Popen(
            [sys.executable, "-c", WRITING, at], cwd=ROOT, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )
        for step in range(4):
            assert process.stdout.readline() == f"{step}\n"
            shutil.copyfile(image, tmp_path / f"copy_{step}")
            process.stdin.write("\n")
            process.stdin.flush()
        process.communicate(timeout=100)
    for step in range(4):
        with mounted(tmp_path / f"copy_{step}", tmp_path / "again") as at:
            prefixes = store.Store(at / "run", 2).prefixes()
            assert store.read_manifest(prefixes[-1]) == {"step": step}
            weights = tf.Variable(tf.zeros([100_000]))
            store.read_variables(prefixes[-1], {"w": [weights]})
            assert float(tf.reduce_min(weights)) == step
            flags = (at / "run" / "flags.cfg").read_text()
            assert flags == f"--seed={step}"


@pytest.mark.slow
def test_a_run_goes_on_after_power_cuts(image, tmp_path):
    """Copies of the disk in mid-run, each of which ends as if unbroken."""
    run = [
        "--flagfile=configs/digits_fr.cfg", "--depth=20", "--num_modules=2",
        "--epochs=3", "--checkpoint_steps=4", "--deterministic",
        f"--data_dir={tmp_path / 'data'}",
    ]
    whole = command("trainers.train", *run, f"--workdir={tmp_path / 'whole'}")
    assert whole.returncode == 0, whole.stderr
    copies = []
    at = tmp_path / "mounted"
    with mounted(image, at):
        process = start("trainers.train", *run, f"--workdir={at / 'run'}")
        folder = at / "run" / "checkpoints"
        for number in (2, 6, 12):
            while not (folder / f"ckpt-{number}.index").exists():
                assert process.poll() is None
            shutil.copyfile(image, tmp_path / f"copy_{number}")
            copies.append(number)
        process.kill()
        process.communicate()
    for number in copies:
        with mounted(tmp_path / f"copy_{number}", at):
            # The newest was perhaps being written; the one before is whole.
            there = store.Store(at / "run" / "checkpoints", 3).prefixes()
            assert int(there[-1].rpartition("-")[2]) >= number - 1
            done = command("trainers.train", *run, f"--workdir={at / 'run'}")
            assert done.returncode == 0, done.stderr
            assert _history(at / "run") == _history(tmp_path / "whole")


def _history(folder):
    """What a run has learned, epoch by epoch; no clock is in it."""
    with open(folder / "history.csv") as file:
        return [
            [row[name] for name in ("epoch", "loss", "accuracy", "val_loss")]
            for row in csv.DictReader(file)
        ]
