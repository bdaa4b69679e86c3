"""The learning rates of many runs at once."""

import numpy as np


class LearningRates:
    """The learning rate of each run and module, as in `fr_keras`.

    They are computed in float32, so that even the last digits are the same.

    Args:
        initial: list of R floats, γ of each run.
        schedule: callable, returns the factor of γ at iteration t, from 0.
        policy: `fr_keras.DelayPolicy`, or `None` if modules do not differ.
    """

    def __init__(self, initial, schedule, policy):
        self._initial = np.array(initial, "float32")
        self._schedule = schedule
        self._policy = policy
        self._highest = np.zeros_like(self._initial)  # So far, per run.

    def at(self, t, delays):
        """Returns the learning rates at an iteration.

        To be called for one iteration after the other, since the rates of a
        policy depend on the highest so far.

        Args:
            t: int, the iteration.
            delays: list of K ints, s of each module.

        Returns:
            Array of shape (K, 2, R): for each module, the learning rates at
            `t`, and their means over the s iterations from `t`.
        """
        self._highest = np.maximum(self._highest, self._scheduled(t))
        return np.array([
            [self._mean(t, delay, horizon) for horizon in (1, max(delay, 1))]
            for delay in delays
        ])

    def _scheduled(self, t):
        return self._initial * np.float32(self._schedule(t))

    def _mean(self, t, delay, horizon):
        rates = np.mean(
            [self._scheduled(t + ahead) for ahead in range(horizon)], axis=0
        )
        if self._policy is None:
            return rates
        high, low = (
            self._policy.learning_rate(delay),
            self._policy.decayed_learning_rate(delay),
        )
        share = np.divide(
            rates, np.maximum(rates, self._highest), dtype="float64",
            out=np.zeros(len(rates)), where=rates > 0,
        )
        return np.float32(rates * high**share * low**(1 - share))
