"""Mistakes and failures that command lines report in one line."""

import json
import resource
import signal
import subprocess
import sys

import pytest

from tests.command_line import ROOT, command, complaint, finish, start
from tests.digits_job import JOB


@pytest.mark.parametrize(
    "flags, expected",
    [
        # (More of them in experiment_test.py and input_pipeline_test.py.)
        (["--learning_rate=nan"], "--learning_rate"),
        (["--num_modules=1000"], "at most 39 for"),
        (["--dataset=cifar10"], "tfds build cifar10"),
        (["--algorithm=magic"], "algorithm"),
        (["--devices=GPU:7"], "GPU:7"),
        (["--devices=,"], "device=''"),
        (["--dataset=nonsense"], "Received: nonsense"),
        (["--mean=1,2"], "--mean"),
        (["--crop_padding=1000"], "--crop_padding"),
        (["--data_dir=LICENSE"], "Not a directory"),
        (["--flagfile=nowhere.cfg"], "nowhere.cfg"),
        (["stray"], "stray"),
    ],
)
@pytest.mark.quick_cases("flags0", "flags2-", "flags4-", "flags9-")
def test_mistake_gets_one_line(flags, expected, data_dir, tmp_path):
    done = command(
        "trainers.train", "--flagfile=configs/digits_fr.cfg",
        f"--workdir={tmp_path / 'run'}", f"--data_dir={data_dir}", *flags,
    )
    assert expected in complaint(done)


def test_other_files_are_refused(tmp_path):
    (tmp_path / "precious.txt").write_text("precious")
    done = command("trainers.train", *JOB, f"--workdir={tmp_path}")
    assert "must be new, empty or that of the same run" in complaint(done)
    assert [path.name for path in tmp_path.iterdir()] == ["precious.txt"]


def test_unwritable_working_directory(tmp_path):
    (tmp_path / "file").write_text("")
    done = command(
        "trainers.train", *JOB, f"--workdir={tmp_path / 'file' / 'run'}"
    )
    assert "cannot be written to" in complaint(done)


def test_workdir_is_required():
    assert "workdir" in complaint(command("trainers.train", *JOB))


def test_evaluate_without_a_run(tmp_path):
    done = command("trainers.evaluate", f"--workdir={tmp_path}")
    assert "must contain a finished run" in complaint(done)


@pytest.mark.parametrize(
    "text, expected",
    [
        ("--dataset=digits\n--colour=red\n", "colour"),
        ("--dataset=digits\n", "without --mean"),
        ("stray\n", "stray"),
        ("\xff", "must be text"),
    ],
)
def test_evaluate_with_damaged_flags(text, expected, tmp_path):
    (tmp_path / "flags.cfg").write_bytes(text.encode("latin-1"))
    (tmp_path / "model.keras").write_bytes(b"")
    done = command("trainers.evaluate", f"--workdir={tmp_path}")
    assert "flags.cfg" in complaint(done) and expected in complaint(done)


def test_another_keras_backend_is_refused():
    # (Importing Keras with another backend may fail before fr_keras is asked.)
    program = (
        "import keras; keras.backend.backend = lambda: 'jax'; import fr_keras"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT, capture_output=True, text=True, timeout=300,
    )
    last = done.stderr.splitlines()[-1]
    assert last.startswith("ImportError") and last.endswith("'jax'")
    done = command(
        "trainers.train", *JOB, "--workdir=runs/none",
        variables={"KERAS_BACKEND": "jax"},
    )
    assert "KERAS_BACKEND" in complaint(done)


def test_training_that_diverges(data_dir, tmp_path):
    done = command(
        "trainers.train", *JOB, f"--workdir={tmp_path}",
        f"--data_dir={data_dir}",
        "--learning_rate=1e20",
    )
    assert "Training diverged in epoch 1" in complaint(done, status=1)
    assert "Test accuracy" not in done.stdout

    def no_constant(text):
        raise AssertionError(f"{text} is not JSON")

    results = json.loads(
        (tmp_path / "results.json").read_text(), parse_constant=no_constant
    )
    assert results["test_loss"] is None and results["epochs"] == 1
    assert not (tmp_path / "model.keras").exists()


def test_interrupt_before_training(data_dir, tmp_path):
    process = start(
        "trainers.train", *JOB, f"--workdir={tmp_path}",
        f"--data_dir={data_dir}",
    )
    process.stdout.readline()  # The network is there.
    process.send_signal(signal.SIGINT)
    assert complaint(finish(process), status=130).endswith(": interrupted")


@pytest.mark.slow
def test_disk_that_is_full_at_the_end(data_dir, tmp_path):
    limit = 500_000, 500_000  # Bytes; the network takes more than twice that.
    done = command(
        "trainers.train", *JOB, f"--workdir={tmp_path}",
        f"--data_dir={data_dir}",
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit),
    )
    assert done.returncode == 2
    first, last = done.stderr.splitlines()
    assert "checkpoint cannot be written to" in first
    assert "model.keras cannot be written" in last
    names = {path.name for path in tmp_path.iterdir()}
    assert not {"model.keras", "results.json"} & names
    again = command(
        "trainers.train", *JOB, f"--workdir={tmp_path}",
        f"--data_dir={data_dir}"
    )
    assert again.returncode == 0, again.stderr
    assert "Test accuracy" in again.stdout
