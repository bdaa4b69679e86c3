"""Networks and datasets from anywhere train from the command line."""

import json
import os
import re
import shlex
import subprocess
import sys

import keras
import numpy as np
import pytest

from tests import own_experiments
from tests.command_line import ROOT, command, complaint

OWN = "tests.own_experiments"
HUB = {
    "keras_hub.ResNetImageClassifier": {"backbone": {
        "input_conv_filters": [64], "input_conv_kernel_sizes": [3],
        "stackwise_num_filters": [64, 64], "stackwise_num_blocks": [1, 1],
        "stackwise_num_strides": [1, 2], "block_type": "basic_block",
    }},
    "keras_hub.GPT2CausalLM": {"backbone": {
        "vocabulary_size": own_experiments.NUM_CLASSES, "num_layers": 4,
        "num_heads": 2, "hidden_dim": 8, "intermediate_dim": 8,
        "max_sequence_length": own_experiments.LENGTH, "dropout": 0,
    }},
}
# What --model names, further flags, and the dataset. "FILE" is a saved model.
PLACES = [
    ("resnet", (), "images"),
    (f"{OWN}:dense", ('--model_args={"width": 4}',), "weighted"),
    ("FILE", (), "images"),
    ("applications.MobileNetV3Small", (), "images"),
    ("transformer", (
        "--depth=2", '--model_args={"width": 8, "num_heads": 2}',
    ), "tokens"),
    (f"{OWN}:unet", (), "masks"),
    (f"{OWN}:lstm", (), "series"),
    (f"{OWN}:two_inputs", (), "pairs"),
    *(
        (name, (f"--model_args={json.dumps(arguments)}",), dataset)
        for (name, arguments), dataset
        in zip(HUB.items(), ("images", "hub_tokens"))
    ),
]
# One of each kind; the others differ in what builds them.
FAST = ("FILE", f"{OWN}:two_inputs")


def saved(path):
    """A network in a file, which needs no module of the user's."""
    network = keras.Sequential([
        keras.Input((32, 32, 3)), keras.layers.Flatten(),
        keras.layers.Dense(4), keras.layers.Dense(own_experiments.NUM_CLASSES),
    ])
    network.save(path)
    return network


@pytest.mark.parametrize("model, flags, dataset", [
    pytest.param(
        *place, id=place[0], marks=[] if place[0] in FAST else pytest.mark.slow
    )
    for place in PLACES
])
@pytest.mark.quick_cases("two_inputs")
def test_networks_from_anywhere(model, flags, dataset, tmp_path):
    if model.startswith("keras_hub."):
        pytest.importorskip("keras_hub")
    if model == "FILE":
        saved(tmp_path / "mine.keras")
        # Relative, as a user would write it.
        model = os.path.relpath(tmp_path / "mine.keras", ROOT)
    workdir = tmp_path / "run"
    run = [
        "trainers.train", f"--model={model}", *flags,
        f"--dataset={OWN}:{dataset}", "--num_modules=2", "--batch_size=8",
        "--epochs=1", "--steps_per_execution=2", f"--workdir={workdir}",
    ]
    done = command(*run)
    assert done.returncode == 0, done.stderr
    results = json.loads((workdir / "results.json").read_text())
    assert results["num_modules"] == 2 and 0 < results["test_loss"] < 100
    again = command(*run)  # Its flags are those of the run.
    assert again.returncode == 0, again.stderr
    done = command("trainers.evaluate", f"--workdir={workdir}")
    assert done.returncode == 0, done.stderr
    assert f"loss {results['test_loss']:.4f} on 8 examples" in done.stdout


@pytest.mark.slow
def test_programs_of_the_page(tmp_path):
    """What docs/command_line.md shows, from a directory of the user's own."""
    text = (ROOT / "docs" / "command_line.md").read_text()
    programs = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (tmp_path / "mine.py").write_text("\n\n".join(programs))
    for name in ("train.txt", "test.txt"):
        (tmp_path / name).write_text("What is learned, is learned. " * 60)
    lines = text.replace("\\\n", "").splitlines()
    commands = [
        line.strip() for line in lines
        if line.startswith("    python") and "=mine:" in line
    ]
    assert len(commands) == 2
    for line in commands:
        subprocess.run(
            [sys.executable, *shlex.split(line)[1:], "--epochs=1"],
            cwd=tmp_path, check=True, env={**os.environ, "PYTHONPATH": ROOT},
        )


def test_a_file_keeps_its_weights(tmp_path):
    """Without learning, the trained network is the one in the file."""
    network = saved(tmp_path / "mine.keras")
    done = command(
        "trainers.train", f"--model={tmp_path / 'mine.keras'}",
        f"--dataset={OWN}:images", "--num_modules=2", "--epochs=1",
        "--learning_rate=1e-30", f"--workdir={tmp_path / 'run'}",
    )
    assert done.returncode == 0, done.stderr
    trained = keras.saving.load_model(
        tmp_path / "run" / "model.keras", compile=False
    )
    for was, now in zip(network.weights, trained.weights, strict=True):
        np.testing.assert_allclose(was.numpy(), now.numpy(), atol=1e-20)


@pytest.mark.parametrize("flags, message", [
    (("--model=applications.Magic",), "must name one of"),
    (("--model=keras_hub.Magic",), "keras_hub"),
    (("--model=nowhere.keras",), "cannot be made"),
    (("--model=no.such.module:function",), "cannot be imported"),
    ((f"--model={OWN}:nothing",), "cannot be imported"),
    ((f"--model={OWN}:LENGTH",), "must be callable"),
    ((f"--model={OWN}:broken",), "out of ideas"),
    ((f"--model={OWN}:no_graph",), "keras.Model(inputs, model.call(inputs))"),
    ((f"--model={OWN}:with_softmax",), "without a softmax"),
    ((f"--model={OWN}:two_inputs",), "must take the examples"),
    ((f"--model={OWN}:for_larger_images",), "must take the examples"),
    ((f"--model={OWN}:for_integers",), "must take the examples"),
    (("--model=transformer", "--depth=1"), "must take the examples"),
    ((f"--model={OWN}:dense", '--model_args={"num_classes": 4}'), "logits of"),
    ((f"--model={OWN}:dense", '--model_args={"height": 4}'), "height"),
    ((f"--model={OWN}:dense", "--depth=56"), "--depth does not apply"),
    (("--mean=1",), "--mean does not apply"),
    (("--flip",), "--flip does not apply"),
    ((f"--dataset={OWN}:broken",), "out of ideas"),
    ((f"--dataset={OWN}:no_dataset",), "must provide a tuple"),
    ((f"--dataset={OWN}:batches",), "not batches"),
    ((f"--dataset={OWN}:wrong_labels",), "labels from 0 to 1"),
    ((f"--dataset={OWN}:unknown_size",), "of known size"),
])
@pytest.mark.quick_cases(
    "out of ideas", "without a softmax", "logits of", "not batches",
    "labels from", "keras.Model(",
)
def test_what_does_not_fit_is_refused(flags, message, tmp_path):
    done = command(
        "trainers.train", f"--dataset={OWN}:images", "--num_modules=2",
        f"--workdir={tmp_path / 'run'}", *flags,
    )
    assert message in complaint(done)
    assert not (tmp_path / "run" / "flags.cfg").exists()
