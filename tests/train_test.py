"""The command lines as a user sees them."""

import csv
import json
import os
import re
import shutil
import time

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing import event_accumulator

import fr_keras
from tests import survival
from tests.command_line import ROOT, command, complaint, start
from tests.digits_job import JOB
from trainers.experiment import experiment_flags


@pytest.fixture(scope="module")
def run(data_dir, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "digits"
    done = command(
        "trainers.train", *JOB, f"--workdir={workdir}", f"--data_dir={data_dir}"
    )
    assert done.returncode == 0, done.stderr
    return workdir, done


def test_run_ends_with_its_result(run):
    workdir, done = run
    last = done.stdout.splitlines()[-1]
    results = json.loads((workdir / "results.json").read_text())
    accuracy, best = results["test_accuracy"], results["best_test_accuracy"]
    assert re.fullmatch(
        rf"Test accuracy {accuracy:.2%} after 2 epochs in \d+ s "
        rf"\(best: {best:.2%}\); results in {workdir}",
        last,
    )
    shown = re.search(r"View the logs with: (\S+) --logdir (.+)", done.stdout)
    assert shown.group(2) == str(workdir.parent)  # For HParams.
    # As it stands, in a shell where no environment is active.
    assert shutil.which(shown.group(1)) or (ROOT / shown.group(1)).is_file()


def test_run_begins_with_its_modules(run):
    _, done = run
    first, header, *_ = done.stdout[done.stdout.index("features_"):].split("\n")
    assert first == "features_replay on digits: resnet20"
    assert header.startswith("module  device  layers  parameters")
    for k in (1, 2):
        assert re.search(rf"^ +{k}  CPU:{k - 1} ", done.stdout, re.MULTILINE)
    assert "Balance: module " in done.stdout


def test_run_leaves_its_files(run):
    workdir, _ = run
    names = {path.name.split(".tfevents")[0] for path in workdir.iterdir()}
    assert names == {
        ".lock", "checkpoints", "diagnostics", "events.out",
        "flags.cfg", "history.csv", "model.keras", "modules.png",
        "results.json", "train", "validation",
    }
    results = json.loads((workdir / "results.json").read_text())
    with open(workdir / "history.csv") as file:
        epochs = list(csv.DictReader(file))
    assert len(epochs) == results["epochs"] == 2
    assert float(epochs[-1]["val_accuracy"]) == results["test_accuracy"]
    assert results["seconds_per_epoch"] == pytest.approx(
        1437 / results["examples_per_second"]
    )
    # At least weights and momentum, in float32.
    assert results["peak_memory_bytes"] > 8 * results["parameters"]
    assert results["num_modules"] == 2
    assert results["algorithm"] == "features_replay"
    flags = (workdir / "flags.cfg").read_text()
    assert "--batch_size=300" in flags and "--crop_padding=1" in flags
    network = keras.models.load_model(workdir / "model.keras", compile=False)
    assert network.count_params() == results["parameters"]


def test_events_hold_what_is_promised(run):
    workdir, _ = run

    def tags(split):
        events = event_accumulator.EventAccumulator(str(workdir / split))
        events.Reload()
        return events, set(events.Tags()["tensors"])

    events, train = tags("train")
    assert {
        "epoch_loss", "epoch_accuracy", "epoch_learning_rate",
        "epoch_examples_per_second",
    } <= train
    for k in (1, 2):
        of_module = tags(f"diagnostics/module_{k}")[1]
        assert of_module == {"epoch_gradient_norm"}
    assert {"epoch_loss", "epoch_accuracy"} <= tags("validation")[1]
    for tag in train:
        points = events.Tensors(tag)
        assert len(points) == 2, tag
        for point in points:
            assert np.isfinite(tf.make_ndarray(point.tensor_proto)), tag
    rates = [
        tf.make_ndarray(point.tensor_proto)
        for point in events.Tensors("epoch_learning_rate")
    ]
    # Measured at an epoch's end, which is the beginning of the next.
    np.testing.assert_allclose(rates, [0.005, 0.005], rtol=1e-6)


def test_evaluate_finds_the_accuracy_of_the_run(run, data_dir):
    workdir, done = run
    evaluated = command("trainers.evaluate", f"--workdir={workdir}")
    assert evaluated.returncode == 0, evaluated.stderr
    results = json.loads((workdir / "results.json").read_text())
    assert evaluated.stdout.startswith(
        f"Test accuracy {results['test_accuracy']:.2%}, "
        f"loss {results['test_loss']:.4f} on 360 examples of digits"
    )


@pytest.mark.slow
def test_flags_of_a_run_repeat_it(run, tmp_path):
    workdir, done = run
    again = command(
        "trainers.train", f"--flagfile={workdir}/flags.cfg",
        f"--workdir={tmp_path / 'again'}",
    )
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "again" / "flags.cfg").read_text() == (
        workdir / "flags.cfg"
    ).read_text()
    pick = re.compile(r"loss [\d.]+, accuracy [\d.]+%")
    assert pick.findall(again.stdout) == pick.findall(done.stdout)


def files(workdir):
    return {
        path: path.read_bytes() for path in workdir.rglob("*")
        if path.is_file()
    }


def test_finished_run_is_told_again(run, data_dir):
    workdir, done = run
    before = files(workdir)
    again = command(
        "trainers.train", *JOB, f"--workdir={workdir}",
        f"--data_dir={os.path.relpath(data_dir, ROOT)}",
    )
    assert again.returncode == 0, again.stderr
    assert again.stdout.splitlines() == done.stdout.splitlines()[-2:]
    assert files(workdir) == before


def test_run_with_other_flags_is_refused(run, data_dir):
    workdir, _ = run
    before = files(workdir)
    done = command(
        "trainers.train", *JOB, f"--workdir={workdir}",
        f"--data_dir={data_dir}",
        "--seed=3", "--flip", "--std=7",
    )
    said = complaint(done)
    assert f"use --flagfile={workdir}/flags.cfg to resume it" in said
    assert "--flip (it was: --noflip), --seed=3 (it was: --seed=0)" in said
    assert "--std=7 (it was: --std=" in said
    assert files(workdir) == before


def test_replicas(data_dir, tmp_path):
    workdir = tmp_path / "run"
    done = command(
        "trainers.train", *JOB, f"--data_dir={data_dir}", "--replicas=2",
        "--epochs=1", "--learning_rate_drops=", f"--workdir={workdir}",
    )
    assert done.returncode == 0, done.stderr
    assert "Copy 2 of all modules: CPU:2, CPU:3\n" in done.stdout
    assert "--replicas=2\n" in (workdir / "flags.cfg").read_text()
    results = json.loads((workdir / "results.json").read_text())
    assert results["replicas"] == 2
    assert len(set(results["devices"])) == 4
    keras.models.load_model(workdir / "model.keras", compile=False)


def test_micro_batches(data_dir, tmp_path):
    workdir = tmp_path / "run"
    flags = [
        *JOB, f"--data_dir={data_dir}", "--replay_microbatches=2",
        "--drop_remainder", "--epochs=1", "--learning_rate_drops=",
        "--diagnostics_every=2", f"--workdir={workdir}",
    ]
    refused = command("trainers.train", *flags, "--exact_gradient")
    assert "needs --replay_microbatches=1" in complaint(refused)
    assert not workdir.exists()
    done = command("trainers.train", *flags)
    assert done.returncode == 0, done.stderr
    assert "--replay_microbatches=2\n" in (workdir / "flags.cfg").read_text()
    header, *_ = (workdir / "history.csv").read_text().split("\n")
    assert "busy_share/module_1" in header and "sigma" not in header


@pytest.mark.slow
def test_weights_of_another_run(run, data_dir, tmp_path):
    workdir, _ = run
    flags = [
        *JOB, f"--data_dir={data_dir}", "--num_modules=3",
        "--algorithm=backprop", "--epochs=1", "--learning_rate_drops=",
        "--learning_rate=1e-9",
    ]
    done = command(
        "trainers.train", *flags, f"--restore_weights_from={workdir}",
        f"--workdir={tmp_path / 'new'}",
    )
    assert done.returncode == 0, done.stderr
    assert f"weights of {workdir}/checkpoints/ckpt-2" in done.stdout
    # Killed before its first checkpoint, it begins with them again.
    shutil.rmtree(tmp_path / "new" / "checkpoints")
    for name in ("results.json", "model.keras"):
        (tmp_path / "new" / name).unlink()
    again = command(
        "trainers.train", *flags, f"--restore_weights_from={workdir}",
        f"--workdir={tmp_path / 'new'}",
    )
    assert f"weights of {workdir}/checkpoints/ckpt-2" in again.stdout
    # At this learning rate they stay what they are.
    old, new = (
        keras.models.load_model(folder / "model.keras", compile=False)
        for folder in (workdir, tmp_path / "new")
    )
    for a, b in zip(old.trainable_weights, new.trainable_weights):
        np.testing.assert_allclose(a, b, atol=1e-5)


@pytest.mark.slow
def test_diagnostics_of_a_run_that_was_killed(data_dir, tmp_path):
    """Each step once; what probes remember of others begins anew."""
    flags = [
        *JOB, f"--data_dir={data_dir}", "--deterministic", "--epochs=6",
        "--diagnostics_every=2", "--checkpoint_steps=4",
    ]
    curves = []
    for name, kills in (("unbroken", 0), ("killed", 2)):
        workdir = tmp_path / name
        for _ in range(kills):
            process = start("trainers.train", *flags, f"--workdir={workdir}")
            number = survival._newest(workdir / "checkpoints")
            while survival._newest(workdir / "checkpoints") < number + 2:
                assert process.poll() is None, process.stderr.read()
                time.sleep(0.005)
            process.kill()
            process.communicate()
        done = command("trainers.train", *flags, f"--workdir={workdir}")
        assert done.returncode == 0, done.stderr
        assert not done.stderr
        curves.append({
            tag: [step for step, _ in points] for tag, points in
            {
                **survival._curves(workdir / "diagnostics"),
                **survival._curves(workdir / "diagnostics" / "module_1"),
            }.items()
        })
    assert len(curves[0]["sigma"]) >= 5
    for of_run in curves:  # It is written whenever a process begins.
        of_run.pop("custom_scalars__config__", None)
    assert curves[0] == curves[1]


@pytest.mark.slow
@pytest.mark.parametrize(
    "flags, expected",
    [
        (["--restore_weights_from=nowhere"], "without checkpoints"),
        (["--depth=32"], "another network"),
    ],
)
def test_weights_that_cannot_be_restored(
    flags, expected, run, data_dir, tmp_path
):
    done = command(
        "trainers.train", *JOB, f"--data_dir={data_dir}",
        f"--restore_weights_from={run[0]}", *flags,
        f"--workdir={tmp_path / 'new'}",
    )
    assert expected in complaint(done)
    assert not list((tmp_path / "new").iterdir())


@pytest.mark.slow
def test_evaluate_on_other_data(run, tmp_path):
    workdir, _ = run
    (tmp_path / "flags.cfg").write_text((workdir / "flags.cfg").read_text())
    network = fr_keras.models.resnet(20, num_classes=3, input_shape=(8, 8, 1))
    network.save(tmp_path / "model.keras")
    done = command("trainers.evaluate", f"--workdir={tmp_path}")
    assert complaint(done).endswith(
        "must return logits of shape (None, 10) for the 10 classes of "
        "--dataset=digits. Received: (None, 3)"
    )


def test_evaluate_with_a_damaged_model(run, tmp_path):
    workdir, _ = run
    (tmp_path / "flags.cfg").write_text((workdir / "flags.cfg").read_text())
    (tmp_path / "model.keras").write_bytes(b"damaged")
    done = command("trainers.evaluate", f"--workdir={tmp_path}")
    assert "cannot be loaded" in complaint(done)


def test_help_reads_well():
    done = command("trainers.train", "--helpshort")
    survival = (
        "checkpoint_steps", "checkpoint_minutes", "checkpoint_epochs",
        "keep_checkpoints", "on_nan",
    )
    for flag in ("workdir", *experiment_flags.EXPERIMENT_FLAGS, *survival):
        # In the overview, and with its description.
        mentions = re.findall(rf"--(?:\[no\])?{flag}\b", done.stdout)
        assert len(mentions) >= 2, flag
    assert max(map(len, done.stdout.splitlines())) <= 80


@pytest.mark.slow
def test_help_of_evaluate_shows_what_matters_there():
    done = command("trainers.evaluate", "--helpshort")
    shown = re.findall(r"^  --(\w+):", done.stdout, re.MULTILINE)
    assert shown == [
        "batch_size", "data_dir", "devices", "num_modules", "workdir"
    ]
