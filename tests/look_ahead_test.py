"""Weights to come: against the plain reference, and where nothing is late."""

import pytest

import fr_keras
from tests import agreement, reference
from tests.agreement import convolutional_net


class Policy(fr_keras.DelayPolicy):
    """Factors that are exact in binary, so that float64 agrees."""

    def play(self, delay, momentum):
        return 0.5 * delay + momentum, 0.25 * delay

    def replay(self, delay, momentum):
        return 1.0 + 0.125 * delay, 2.0


MOMENTUM = {"sgd": 0.0, "nesterov": 0.875, "adam": 0.875, "schedule": 0.875}


@pytest.mark.parametrize("num_modules, optimizer, steps", [
    (1, "adam", 5), (2, "sgd", 1), (3, "nesterov", 5), (3, "adam", 1),
    (4, "adam", 5), (4, "schedule", 5),
])
def test_agrees_with_reference(float64, num_modules, optimizer, steps):
    policy, momentum = Policy(), MOMENTUM[optimizer]

    def plain(*args):
        if num_modules == 1:
            return reference.features_replay(*args)
        return reference.features_replay(
            *args, play_ahead=lambda s: policy.play(s, momentum),
            replay_ahead=lambda s: policy.replay(s, momentum),
        )

    agreement.check(
        fr_keras.FeaturesReplay, plain, num_modules, convolutional_net,
        optimizer, steps, weight_prediction=True, delay_policy=policy,
    )
