"""Back-propagation against the plain reference of `reference.py`."""

import pytest

import fr_keras
from tests import agreement, reference


def plain_backprop(modules, *args):
    return reference.delayed_backprop(modules, *args, [0] * len(modules))


@pytest.mark.parametrize("num_modules", [1, 2, 3, 4])
@pytest.mark.parametrize(
    "net", [agreement.dense_net, agreement.convolutional_net]
)
@pytest.mark.quick_cases("dense_net-3", "convolutional_net-4")
def test_agrees_with_reference(float64, num_modules, net):
    agreement.check(
        fr_keras.Backprop, plain_backprop, num_modules, net, "nesterov",
        steps=5,
    )
