"""The command `fr-keras`, and what importing the library brings along."""

import ast
import pathlib
import re
import subprocess
import sys

import pytest

from tests.command_line import ROOT, command, complaint
from trainers.__main__ import COMMANDS


@pytest.mark.parametrize("arguments", [(), ("--help",)])
def test_help_is_one_screen(arguments):
    done = command("trainers", *arguments)
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert len(lines) <= 24 and max(map(len, lines)) <= 80
    assert {*re.findall(r"^    (\w+) ", done.stdout, re.M)} == {*COMMANDS}


def test_every_command_line_is_one():
    typed = {
        f"trainers.{path.stem}" for path in (ROOT / "trainers").glob("*.py")
    } - {"trainers.__init__", "trainers.__main__", "trainers.private_network"}
    assert {module for module, _ in COMMANDS.values()} == typed


def test_flags_go_to_the_command():
    done = command("trainers", "train", "--epochs=many", "--workdir=none")
    assert done.returncode == 2
    assert "train.py: flag --epochs=many" in done.stderr


@pytest.mark.parametrize("program, arguments, message", [
    ("train", (), "--workdir is required, for example --workdir=runs/my_run"),
    ("benchmark", (), "--measure and --workdir are required"),
    ("local_cluster", (), "The flags of trainers.train must follow --"),
    ("local_cluster", ("--", "--epochs=1"), "at least --workdir"),
])
def test_what_is_missing_is_reported_at_once(program, arguments, message):
    assert message in complaint(command(f"trainers.{program}", *arguments))


def test_a_command_that_is_none():
    done = command("trainers", "trian")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].endswith("Received: trian")


def test_it_is_installed():
    script = pathlib.Path(sys.executable).with_name("fr-keras")
    assert script.read_text().count("trainers.__main__")


def test_import_brings_nothing_that_only_command_lines_need():
    """(Keras itself imports scikit-learn and Matplotlib where they are.)"""
    code = (
        "import sys, keras, tensorflow; before = {*sys.modules}; "
        "import fr_keras; print({n.partition('.')[0] for n in sys.modules} "
        "- {n.partition('.')[0] for n in before})"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )
    brought = ast.literal_eval(done.stdout)
    assert "fr_keras" in brought
    assert brought.isdisjoint({
        "matplotlib", "scipy", "sklearn", "tensorboard",
        "tensorflow_datasets", "trainers",
    })
