r"""Kills runs again and again, and looks whether they end as if unbroken.

    python -m tests.survival --kills=100

trains in eleven configurations: ResNet-20 on the digits with dropout and
augmentation by every algorithm of trainers.train, and a small network by
`model.fit` with what that has no flags for (tests/survival_fit.py). Each is
trained once undisturbed, and once killed by SIGKILL at random moments and
started again by the same command. Weights, the whole last checkpoint, history
and TensorBoard's curves must be equal, bit for bit. It takes about 15 s for
each kill.
"""

import argparse
import csv
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import tempfile
import time

import numpy as np
import tensorflow as tf
from tensorboard.backend.event_processing import event_accumulator

from tests import survival_fit

ROOT = pathlib.Path(__file__).parent.parent

# What differs from run to run.
_TIMES = ("examples_per_second", "seconds_per_step")


_ADAM = ("--optimizer=adam", "--learning_rate=0.001")
# What is said of a run beside what all have in common.
CONFIGURATIONS = {
    "features_replay": ("--algorithm=features_replay", *_ADAM),
    "clipped": (
        "--algorithm=features_replay", "--global_clipnorm=1",
        "--learning_rate=0.02", "--learning_rate_drops=3,6",
    ),
    "ddg": ("--algorithm=ddg", *_ADAM),
    "dni": ("--algorithm=dni", *_ADAM),
    "gpipe": ("--algorithm=gpipe", "--drop_remainder", *_ADAM),
    "pipeline": (
        "--algorithm=pipeline", "--schedule=zb-h1", "--drop_remainder", *_ADAM
    ),
    "backprop": ("--algorithm=backprop", *_ADAM),
    "replicas": (
        "--algorithm=features_replay", "--num_modules=2", "--replicas=2",
        *_ADAM,
    ),
    **dict.fromkeys(survival_fit.OPTIMIZERS),
}


def job(name, epochs, steps_per_execution, data_dir):
    """The command of a run, without --workdir, a list.

    Args:
        name: str, one of `CONFIGURATIONS`.
        epochs: int.
        steps_per_execution: int.
        data_dir: path of the prepared dataset.
    """
    common = [
        f"--epochs={epochs}", f"--steps_per_execution={steps_per_execution}"
    ]
    if name in survival_fit.OPTIMIZERS:
        return ["tests.survival_fit", name, *common]
    return [
        "trainers.train", *common, "--num_modules=4", "--dataset=digits",
        "--depth=20", "--dropout=0.1", "--crop_padding=1", "--flip",
        "--batch_size=64", "--deterministic", f"--data_dir={data_dir}",
        "--checkpoint_steps=9", "--checkpoint_epochs=1", *CONFIGURATIONS[name],
    ]


def start(job, workdir):
    return subprocess.Popen(
        [sys.executable, "-m", *job, f"--workdir={workdir}"],
        cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )


def finish(process):
    """Waits for a run to end well."""
    _, said = process.communicate(timeout=3600)
    assert process.returncode == 0, said


def train_and_kill(job, workdir, kills, chance):
    """Trains, killed so often; returns how often the run was in training."""
    checkpoints = workdir / "checkpoints"
    in_training = 0
    for number in range(kills):
        process = start(job, workdir)
        before = _newest(checkpoints)
        # A third of them at any moment of the start.
        wanted = chance.choice([None, 1, 1, 2, 3, 4])
        if wanted is None:
            time.sleep(chance.uniform(0, 10))
        else:
            while process.poll() is None and (
                _newest(checkpoints) < before + wanted
            ):
                time.sleep(0.002)
            time.sleep(chance.uniform(0, 0.15))
        assert process.poll() is None, (
            f"The run ended before kill {number + 1}: "
            f"{process.stderr.read() or 'train for more epochs'}"
        )
        process.send_signal(signal.SIGKILL)
        process.communicate()
        in_training += _newest(checkpoints) > before
    finish(start(job, workdir))
    return in_training


def _newest(folder):
    """The number of the newest checkpoint, or 0."""
    return max(
        (int(path.stem.split("-")[1]) for path in folder.glob("ckpt-*.index")),
        default=0,
    )


def compare(unbroken, killed):
    """Asserts that two runs ended with the same numbers."""
    newest = [
        sorted(
            (workdir / "checkpoints").glob("ckpt-*.index"),
            key=lambda path: int(path.stem.split("-")[1]),
        )[-1].with_suffix("")
        for workdir in (unbroken, killed)
    ]
    one, other = (tf.train.load_checkpoint(str(prefix)) for prefix in newest)
    names = {
        name for name in one.get_variable_to_shape_map()
        if not name.startswith(("arrays", "manifest", "save_counter", "_CHECK"))
    }
    assert len(names) > 20
    for name in names:
        np.testing.assert_array_equal(
            *(written(name, c.get_tensor(name)) for c in (one, other)),
            err_msg=name,
        )
    rows = [_history(workdir) for workdir in (unbroken, killed)]
    assert rows[0] == rows[1]
    assert [row["epoch"] for row in rows[0]] == [*map(str, range(len(rows[0])))]
    modules = [
        path.relative_to(unbroken)
        for path in unbroken.glob("diagnostics/module_*")
    ]
    assert modules
    for split in ("train", "validation", *modules):
        curves = [_curves(workdir / split) for workdir in (unbroken, killed)]
        assert curves[0] == curves[1]
        assert curves[0]
        for tag, points in curves[0].items():
            steps = [step for step, _ in points]
            if tag.startswith("epoch_"):
                assert steps == [*range(len(rows[0]))], tag
            else:
                assert steps == sorted({*steps}), tag
    results = [
        json.loads((workdir / "results.json").read_text())
        for workdir in (unbroken, killed)
    ]
    assert results[0]["test_accuracy"] == results[1]["test_accuracy"]


def written(name, value):
    """What somebody has written of a variable.

    What DDG keeps of a forward pass has the reserve space of batch
    normalization. oneDNN's mask of the activation has a byte for each element,
    and TensorFlow allots it four: the rest is whatever was in memory.
    """
    if name.startswith("method/") and value.ndim == 1 and value.size > 1024:
        return value[: value.size // 4]
    return value


def _history(workdir):
    with open(workdir / "history.csv") as file:
        return [
            {k: v for k, v in row.items() if k not in _TIMES}
            for row in csv.DictReader(file)
        ]


def _curves(folder):
    """From the tags of event files to lists of `(step, value)`."""
    events = event_accumulator.EventAccumulator(str(folder), {"tensors": 0})
    events.Reload()
    return {
        tag: [
            (event.step, tf.make_ndarray(event.tensor_proto).tolist())
            for event in events.Tensors(tag)
        ]
        for tag in events.Tags()["tensors"] if not tag.endswith(_TIMES)
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument(
        "--configurations", nargs="+", choices=CONFIGURATIONS,
        default=[*CONFIGURATIONS],
    )
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    chance = random.Random(args.seed)
    number = len(args.configurations)
    for i, name in enumerate(args.configurations):
        kills = args.kills // number + (i < args.kills % number)
        steps_per_execution = (8, 1)[i % 2]
        print(
            f"{name}, {steps_per_execution} iterations per call: "
            f"{survive(name, kills, steps_per_execution, chance)}",
            flush=True,
        )
    print(f"{args.kills} kills: all numbers are equal")


def survive(name, kills, steps_per_execution, chance):
    """Kills a run, and compares it; returns what there is to say."""
    epochs = 6 + 4 * kills
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        command = job(name, epochs, steps_per_execution, folder / "data")
        finish(start(command, folder / "unbroken"))
        in_training = train_and_kill(command, folder / "killed", kills, chance)
        compare(folder / "unbroken", folder / "killed")
    return (
        f"{kills} times killed, {in_training} of them after new checkpoints, "
        f"{epochs} epochs"
    )


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    main()
