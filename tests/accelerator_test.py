"""The benchmark for accelerators, on logical devices of the CPU."""

import json
import os
import time

import keras
import numpy as np
import pytest
import tensorflow as tf

import fr_keras
from tests.command_line import command, complaint
from trainers.benchmarks import accelerator, partitions, processes

CASE = accelerator.Case("small_transformer", 8, 8, 4)


def test_cases():
    """Precision, XLA and iterations per call, the plainest case first."""
    found = [
        (case.dtype_policy, case.jit_compile, case.steps_per_execution)
        for case in CASE.variants()
    ]
    assert found[0] == ("float32", False, 4)
    assert {*found} == {
        ("float32", False, 4), ("mixed_bfloat16", False, 4),
        ("float32", True, 4), ("mixed_bfloat16", True, 4),
        ("float32", False, 1),
    }


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """The smallest complete report: its folder and what was printed."""
    folder = tmp_path_factory.mktemp("accelerator") / "report"
    start = time.monotonic()
    done = command(
        "trainers.benchmark",
        "--flagfile=configs/benchmark_accelerator.cfg",
        "--numbers_of_modules=2", "--algorithms=features_replay",
        "--networks=small_transformer", "--batch_size=4", "--num_steps=8",
        "--steps_per_execution=4", "--rounds=2", f"--workdir={folder}",
    )
    assert done.returncode == 0, done.stderr
    print(f"in {time.monotonic() - start:.0f} s")
    return folder, done.stdout


@pytest.mark.slow
def test_the_report_is_complete(report):
    folder, printed = report
    text = (folder / "table.md").read_text()
    assert text in printed
    data = json.loads((folder / "report.json").read_text())
    assert [of["method"] for of in data["placement"]] == [
        "features_replay"
    ]
    for of in data["placement"]:
        assert of["error"] is None
        assert {p["device"] for p in of["partitions"]} == {
            "CPU:0", "CPU:1", "CPU:2"
        }
    assert "misplaced" in text and text.count("| none") == 1
    rows = data["throughput"]
    assert len(rows) == 5 * 2
    assert {row["method"] for row in rows} == {
        "stock Keras", "features_replay"
    }
    for row in rows:
        assert row["error"] is None
        assert len(row["seconds"]) == len(row["host_seconds"]) == 2
        assert min(row["seconds"]) > 0
        assert min(row["peak_bytes"].values()) > 10_000
    assert sum(row["predicted_seconds"] is not None for row in rows) == 2
    assert sum(len(row["predicted_bytes"] or ()) for row in rows) == 3
    profiles = list(folder.glob("profile_small_transformer/**/*.xplane.pb"))
    assert len(profiles) == 1
    assert "Features Replay, K = 2, of small_transformer" in text


def test_a_part_alone_and_its_time_limit(tmp_path):
    """What there is when the time is up is reported, with the rest named."""
    folder = tmp_path / "report"
    done = command(
        "trainers.benchmark", "--measure=accelerator", "--parts=throughput",
        "--networks=small_transformer", "--algorithms=features_replay",
        "--part_seconds=1", f"--workdir={folder}",
    )
    assert done.returncode == 0, done.stderr
    data = json.loads((folder / "report.json").read_text())
    assert data["placement"] == []
    assert [row["method"] for row in data["throughput"][:2]] == [
        "stock Keras", "features_replay"
    ]
    assert {row["error"] for row in data["throughput"]} == {"Its time is up"}
    assert "Its time is up" in (folder / "table.md").read_text()


@pytest.mark.parametrize("flag", [
    "--networks=resnet51", "--parts=speed", "--parts=profile,profile",
    "--part_seconds=0",
])
def test_wrong_flags(tmp_path, flag):
    line = complaint(command(
        "trainers.benchmark", "--measure=accelerator", flag,
        f"--workdir={tmp_path / 'new'}",
    ))
    assert flag.partition("=")[0] in line
    assert not os.path.exists(tmp_path / "new")


def asleep():
    def run():
        time.sleep(60)

    return run


def test_processes_have_a_time_limit():
    start = time.monotonic()
    process = processes.Process(None, asleep, until=start + 20)
    with pytest.raises(processes.Failed, match="Its time is up"):
        process()
    assert 19 < time.monotonic() - start < 50


DEVICES = ["CPU:1", "CPU:2"]


def test_partitions(tmp_path):
    """Counted by hand: a batch of a model of two layers, one per module."""
    model = fr_keras.Backprop(
        [
            keras.Sequential([keras.Input((4,)), keras.layers.Dense(4)]),
            keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)]),
        ],
        devices=DEVICES,
    )
    model.compile("sgd", "mse", steps_per_execution=2)
    x = np.ones([16, 4], "float32")

    def train():
        model.fit(x, x[:, :1], batch_size=8, verbose=0)
        return model.training.graph

    host, first, last = partitions.record(train, str(tmp_path))
    assert [host.device, first.device, last.device] == ["CPU:0", *DEVICES]
    assert host.misplaced() == []
    # Two iterations: the kernel's gradient in both modules, the input's in the
    # last one alone.
    assert first.operations["MatMul"] == 2 * 2
    assert last.operations["MatMul"] == 2 * 3
    # Features up and gradients down.
    assert first.sent[DEVICES[1]] == last.sent[DEVICES[0]] == 2


def test_work_on_the_host_is_noticed(tmp_path):
    @tf.function
    def work(x):
        with tf.device("CPU:1"):
            y = x + 1.0
        with tf.device("CPU:0"):
            return tf.matmul(y, y)

    traced = work.get_concrete_function(tf.TensorSpec([8, 8]))

    def run():
        traced(tf.ones([8, 8]))
        return traced.graph

    found = partitions.record(run, str(tmp_path))
    assert {of.device: len(of.misplaced()) for of in found} == {
        "CPU:0": 1, "CPU:1": 0
    }


def sent_to_host(algorithm, steps_per_execution, folder):
    """The number of tensors that each device sends to the host in a call."""
    model = fr_keras.ALGORITHMS[algorithm](
        [
            keras.Sequential([keras.Input((4,)), keras.layers.Dense(4)]),
            keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)]),
        ],
        devices=DEVICES,
    )
    with tf.device("CPU:1"):  # As where there is a GPU.
        optimizer = keras.optimizers.SGD(
            keras.optimizers.schedules.CosineDecay(0.1, 20), momentum=0.9
        )
    model.compile(optimizer, "mse", steps_per_execution=steps_per_execution)
    x = np.ones([32, 4], "float32")
    folder.mkdir()

    def train():
        model.fit(x, x[:, :1], batch_size=4, verbose=0)
        return model.training.graph

    host, *others = partitions.record(train, str(folder))
    assert host.misplaced() == []
    return [of.sent.get("CPU:0", 0) for of in others]


@pytest.mark.parametrize("algorithm", fr_keras.ALGORITHMS)
@pytest.mark.quick_cases("features_replay", "backprop")
def test_numbers_of_an_iteration_stay_on_the_host(tmp_path, algorithm):
    """Counters and learning rates do not go to a device and back.

    A GPU would be waited for; a worker is another machine.
    """
    # What is reported after a call, and nothing of each iteration.
    assert sent_to_host(algorithm, 2, tmp_path / "2") == sent_to_host(
        algorithm, 4, tmp_path / "4"
    )
