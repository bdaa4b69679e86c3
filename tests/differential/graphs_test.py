"""Graphs made by hand, trained by Keras and by us."""

import dataclasses

import pytest

from tests.differential.graph_cases import CASES
from tests.differential.harness import check
from tests.differential.random_graphs_test import RANDOM
from tests.differential.selection import parameters

FAST = {
    "other order", "other order, alone", "nested dicts", "fine-tuned",
    "siamese", "output that nobody needs",
    "declared otherwise",
}


@pytest.mark.parametrize("name, num_modules", parameters(CASES, FAST))
def test_is_trained_as_by_keras(name, num_modules):
    check(dataclasses.replace(CASES[name], num_modules=num_modules))


def test_number_of_cases(tell):
    assert len(CASES) >= 18
    tell(f"{len(CASES)} graphs, and {RANDOM} drawn at random")
