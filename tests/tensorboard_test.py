"""What a run shows, asked of TensorBoard itself, and its plots."""

import json
import math
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from tensorboard.backend.event_processing import event_accumulator

from fr_keras.callbacks.diagnostics.diagnostic import Diagnostic
from tests.command_line import command, complaint
from trainers.results.event_files import RunFiles
from trainers.results.tensorboard import Curves

JOB = [
    "--dataset=digits", "--depth=20", "--num_modules=3", "--batch_size=64",
    "--epochs=3", "--steps_per_execution=4", "--crop_padding=1",
]
MODULES = [f"module_{k}" for k in (1, 2, 3)]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tensorboard")
    workdir = folder / "runs" / "digits"
    done = command(
        "trainers.train", *JOB, "--diagnostics_every=4", "--exact_gradient",
        "--histograms", "--graph", "--profile_steps=16,17",
        f"--workdir={workdir}", f"--data_dir={folder}",
    )
    assert done.returncode == 0, done.stderr
    return workdir


@pytest.fixture(scope="module")
def ask(run):
    """A function that asks TensorBoard's data API."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "tensorboard.main", "--logdir", run.parent,
         "--port", str(port), "--host", "localhost",
         # The faster loader is a binary of its own that not all systems run.
         "--load_fast=false"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )

    def ask(path, body=None, **query):
        url = f"http://localhost:{port}/data/{path}"
        if query:
            url += "?" + urllib.parse.urlencode(query)
        request = urllib.request.Request(
            url, None if body is None else json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)

    for _ in range(120):
        try:
            if "digits/diagnostics" in ask("plugin/scalars/tags"):
                break
        except (urllib.error.URLError, ConnectionError):
            pass
        time.sleep(1)
    yield ask
    os.killpg(process.pid, signal.SIGTERM)
    process.wait()


def test_what_is_not_measured_has_no_card(tmp_path):
    """But a loss that is not finite has."""
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    not_yet = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: (
        logs.update({"sigma/module_1": math.nan if not epoch else 0.5})
    ))
    files = RunFiles(str(tmp_path), 1)
    model.fit(
        np.full((4, 1), np.nan), np.ones((4, 1)), epochs=2, verbose=0,
        callbacks=[not_yet, Curves(str(tmp_path), False, files)],
    )
    assert _points(tmp_path / "module_1") == {"epoch_sigma": [(1, 0.5)]}
    losses = _points(tmp_path / "train")["epoch_loss"]
    assert [step for step, _ in losses] == [0, 1]


def test_modules_have_runs_of_their_own(tmp_path):
    """TensorBoard, which colours runs, tells them apart in one chart."""
    files = RunFiles(str(tmp_path / "files"), 2)
    for name, writer in (
        ("files", files), ("one", tf.summary.create_file_writer(
            str(tmp_path / "one")
        )),
    ):
        diagnostic = Diagnostic(writer)
        diagnostic.log(
            {"sigma/module_1": 1.0, "sigma/module_2": 2.0, "sigma/total": 3.0},
            step=4,
        )
        diagnostic.log({"sigma/module_1": math.nan}, step=5)
        diagnostic.log({"sigma/module_2": 2.5}, step=None)
        # What `Checkpoints` will find.
        for opened in [*diagnostic._writers.values()] or [writer]:
            opened.flush()
        assert _points(tmp_path / name) == {"sigma/total": [(4, 3.0)]} | (
            {} if name == "files" else
            {"sigma/module_1": [(4, 1.0)], "sigma/module_2": [(4, 2.0)]}
        )
    for k in (1, 2):
        assert _points(tmp_path / "files" / f"module_{k}") == {
            "sigma": [(4, float(k))]
        }


def _points(folder):
    """From tags to the steps and values of scalars."""
    events = event_accumulator.EventAccumulator(str(folder), {"tensors": 0})
    events.Reload()
    return {
        tag: [
            (point.step, float(tf.make_ndarray(point.tensor_proto)))
            for point in events.Tensors(tag)
        ]
        for tag in events.Tags()["tensors"]
    }


@pytest.mark.slow
def test_every_quantity_is_there_and_finite(ask):
    tags = ask("plugin/scalars/tags")
    of_modules = {
        "sigma", "residual", "relative_residual", "feature_drift",
        "busy_share", "epoch_gradient_norm", "epoch_update_ratio",
        "epoch_delay", "epoch_queue_bytes",
    }
    by_step = {
        "sigma/total", "objective", "bound/left", "bound/right", "bound/loss",
        "bound/lipschitz", "bound/second_moment", "bound/sigma",
    }
    by_epoch = {
        "epoch_loss", "epoch_accuracy", "epoch_learning_rate",
        "epoch_examples_per_second", "epoch_seconds_per_step",
    }
    # And once only.
    assert not {*tags["digits/diagnostics"]} & {
        tag.removeprefix("epoch_") for tag in tags["digits/train"]
    }
    assert not any("/module_" in tag for of_run in tags.values()
                   for tag in of_run)
    assert by_step <= {*tags["digits/diagnostics"]}
    assert by_epoch <= {*tags["digits/train"]}
    assert {"epoch_loss", "epoch_accuracy"} <= {*tags["digits/validation"]}
    modules = [f"digits/diagnostics/{module}" for module in MODULES]
    for module in modules:
        # (Three epochs are too short for a share of downhill steps.)
        assert {*tags[module]} - {"downhill"} == of_modules
    for names, which in (
        (by_step, "digits/diagnostics"), (by_epoch, "digits/train"),
        *((of_modules, module) for module in modules),
    ):
        for tag in names:
            values = ask("plugin/scalars/scalars", tag=tag, run=which)
            assert values, tag
            assert np.isfinite([value for _, _, value in values]).all(), tag


@pytest.mark.slow
def test_what_is_known_of_them(ask):
    def values(tag, module):
        return [
            value for _, _, value in ask(
                "plugin/scalars/scalars", tag=tag,
                run=f"digits/diagnostics/{module}",
            )
        ]

    assert set(values("sigma", "module_1")) != {1}
    assert set(values("residual", "module_3")) == {0}
    delays = [values("epoch_delay", module)[-1] for module in MODULES]
    assert delays == [2, 1, 0]
    queued = values("epoch_queue_bytes", "module_1")[-1]
    # Two batches of 8x8 images at least.
    assert queued > 2 * 8 * 8 * 4
    assert 0 < values("busy_share", "module_1")[-1] <= 1


@pytest.mark.slow
def test_dashboards(ask, run):
    layout = ask("plugin/custom_scalars/layout")
    charts = [
        chart["title"] for category in layout["category"]
        for chart in category["chart"]
    ]
    assert charts[0] == "loss"
    assert "sufficient direction constant by module" in charts
    for module in MODULES:
        shown = ask(
            "plugin/custom_scalars/scalars", tag="^sigma$",
            run=f"digits/diagnostics/{module}",
        )
        assert len(shown["tag_to_events"]) == 1

    images = ask("plugin/images/tags")
    assert "modules" in images["digits"]
    assert "timeline" in images["digits/diagnostics"]
    histograms = ask("plugin/histograms/tags")
    assert len(histograms["digits/train"]) > 20
    graphs = ask("plugin/graphs/info")
    assert graphs["digits/diagnostics"]["run_graph"]

    experiment = ask("plugin/hparams/experiment", {"experimentName": ""})
    names = {info["name"] for info in experiment["hparamInfos"]}
    assert {"algorithm", "K", "batch_size"} <= names
    sessions = ask("plugin/hparams/session_groups", {
        "experimentName": "", "startIndex": 0, "sliceSize": 10,
        "colParams": [
            {"hparam": "K"},
            *({"metric": info["name"]} for info in experiment["metricInfos"]),
        ],
        "allowedStatuses": ["STATUS_UNKNOWN", "STATUS_SUCCESS",
                            "STATUS_RUNNING", "STATUS_FAILURE"],
    })
    (group,) = sessions["sessionGroups"]
    assert group["hparams"]["K"] == 3
    assert group["hparams"]["algorithm"] == "features_replay"
    assert group["hparams"]["epochs"] == 3
    measured = {
        (value["name"]["group"], value["name"]["tag"]): value["value"]
        for value in group["metricValues"]
    }
    assert 0 < measured["validation", "epoch_accuracy"] <= 1
    assert measured["train", "epoch_examples_per_second"] > 0
    # Runs that differ in nothing are not merged.
    assert group["name"] == str(run)


@pytest.mark.slow
def test_profile(run):
    (trace,) = run.glob("profile/plugins/profile/*/*.xplane.pb")
    assert trace.stat().st_size > 10_000


@pytest.mark.slow
def test_plots(run, tmp_path):
    done = command("trainers.plot", f"--workdir={run}")
    assert done.returncode == 0, done.stderr
    for name in ("losses", "sigma", "residuals", "norms", "bound"):
        assert f"{name}.png" in done.stdout
        with Image.open(run / f"{name}.png") as picture:
            assert len(picture.convert("RGB").getcolors(1 << 24)) > 20

    assert "must be the directory of a run" in complaint(
        command("trainers.plot", f"--workdir={tmp_path}")
    )
    (tmp_path / "history.csv").write_text("epoch,loss\n0,what\n")
    assert "history.csv is damaged" in complaint(
        command("trainers.plot", f"--workdir={tmp_path}")
    )
    (tmp_path / "history.csv").write_text("epoch,loss\n")
    assert "must contain at least one epoch" in complaint(
        command("trainers.plot", f"--workdir={tmp_path}")
    )


def test_nothing_to_plot(tmp_path):
    """The history of a run that diverged in its first epoch."""
    (tmp_path / "history.csv").write_text("epoch,loss\n0,nan\n")
    done = command("trainers.plot", f"--workdir={tmp_path}")
    assert "history.csv must contain a finite value to plot" in complaint(done)
    assert "Received: epoch, loss, without one" in complaint(done)
    assert done.stdout == ""
    assert [path.name for path in tmp_path.iterdir()] == ["history.csv"]


@pytest.mark.parametrize(
    "flags",
    [
        ["--exact_gradient"],
        ["--diagnostics_every=-1"],
        ["--profile_steps=9,3"],
        ["--profile_steps=9"],
        ["--profile_steps=a,b"],
    ],
)
def test_nonsense_is_refused(flags, tmp_path):
    done = command(
        "trainers.train", *JOB, *flags, f"--workdir={tmp_path / 'new'}"
    )
    assert flags[0].split("=")[0].strip("-") in complaint(done)
    assert not (tmp_path / "new").exists()
