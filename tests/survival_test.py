"""A run that is killed again and again ends as if it never was."""

import random

import pytest

from tests import survival


@pytest.mark.parametrize(
    "name, kills, steps_per_execution, epochs",
    [
        ("features_replay", 1, 8, 4),
        *(
            pytest.param(name, 3, 1 + 7 * (i % 2), 18, marks=pytest.mark.slow)
            for i, name in enumerate(survival.CONFIGURATIONS)
        ),
    ],
)
@pytest.mark.slow
def test_killed_run_ends_as_unbroken(
    name, kills, steps_per_execution, epochs, tmp_path
):
    job = survival.job(name, epochs, steps_per_execution, tmp_path / "data")
    survival.finish(survival.start(job, tmp_path / "unbroken"))
    in_training = survival.train_and_kill(
        job, tmp_path / "killed", kills, random.Random(1)
    )
    assert in_training
    survival.compare(tmp_path / "unbroken", tmp_path / "killed")
