"""The programs in the README run as they are written."""

import pathlib
import re

import keras
import numpy as np
import pytest

README = pathlib.Path(__file__).parent.parent / "README.md"
PROGRAMS = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)


@pytest.fixture
def small_data(monkeypatch, tmp_path):
    """No network, and no time: noise in place of CIFAR-10."""
    rng = np.random.default_rng(0)

    def load_data():
        return [
            (
                rng.integers(0, 256, (size, 32, 32, 3), np.uint8),
                rng.integers(0, 10, (size, 1)),
            )
            for size in (300, 20)
        ]

    monkeypatch.setattr(keras.datasets.cifar10, "load_data", load_data)
    monkeypatch.chdir(tmp_path)


def test_programs(small_data, tmp_path):
    assert len(PROGRAMS) == 5
    names = {}
    for program in PROGRAMS:  # One goes on from the one before it.
        exec(compile(program, str(README), "exec"), names)
    assert {path.name for path in tmp_path.iterdir()} == {
        "trained.keras", "modules.png", "checkpoint.keras", "modules.keras",
        "served", "checkpoints",
    }
