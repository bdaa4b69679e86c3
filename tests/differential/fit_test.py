"""What `compile` and `fit` can do, by Keras and by us."""

import dataclasses

import pytest

from tests.differential.fit_cases import CASES
from tests.differential.harness import check
from tests.differential.selection import parameters

FAST = {
    "inputs: list, outputs: list", "None for an output",
    "frozen between", "compiled again with its optimizer", "train_on_batch",
    "names and shapes", "steps_per_execution",
}


@pytest.mark.parametrize("name, num_modules", parameters(CASES, FAST))
def test_is_as_in_keras(name, num_modules):
    check(dataclasses.replace(CASES[name], num_modules=num_modules))


def test_number_of_cases(tell):
    assert len(CASES) >= 80
    tell(f"{len(CASES)} features of compile and fit")
