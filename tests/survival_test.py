"""A run that is killed again and again ends as if it never was."""

import random

import pytest

from tests import survival


@pytest.mark.parametrize(
    "kills, steps_per_execution, epochs",
    [
        (1, 8, 4),
        pytest.param(20, 1, 86, marks=pytest.mark.slow),
        pytest.param(20, 8, 86, marks=pytest.mark.slow),
    ],
)
def test_killed_run_ends_as_unbroken(
    kills, steps_per_execution, epochs, tmp_path
):
    flags = survival.job(epochs, steps_per_execution, tmp_path / "data")
    survival.finish(survival.start(flags, tmp_path / "unbroken"))
    in_training = survival.train_and_kill(
        flags, tmp_path / "killed", kills, random.Random(1)
    )
    assert in_training
    survival.compare(tmp_path / "unbroken", tmp_path / "killed")
