"""Every layer of Keras in a network that is trained, by Keras and by us."""

import pytest

from tests.differential import layer_cases
from tests.differential.harness import check


def names():
    for name in sorted(layer_cases.classes()):
        if name in layer_cases.LEFT_OUT:
            continue
        for option in layer_cases.LAYERS.get(name, {None: None}):
            yield name, option


@pytest.mark.parametrize("name, option", [
    pytest.param(*of_case, id=" ".join(filter(None, of_case)))
    for of_case in names()
])
def test_is_trained_as_by_keras(name, option):
    check(layer_cases.case(name, option))
