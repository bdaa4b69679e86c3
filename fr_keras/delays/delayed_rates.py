"""Learning rates of modules, by the delays of their gradients."""

import tensorflow as tf

from fr_keras.delays.delay_policy import factor
from fr_keras.engine import placement


class DelayedRates:
    """The learning rate of each module, derived from that of the optimizer.

    Delays limit curvature times learning rate, so late modules cannot bear the
    highest learning rate of a training run; while it decays they may catch up.
    With the optimizer's learning rate γ_t, and its share r of the highest so
    far, that of module k is γ_t a^r b^(1 - r), where a is `learning_rate` and b
    `decayed_learning_rate` of the policy.

    Args:
        policy: `fr_keras.DelayPolicy`.
        delays: list of int, s of each module.
        optimizer: `fr_keras.engine.optimizers.ModuleOptimizers`, built.

    Attributes:
        variables: list of `tf.Variable`s, the highest learning rate so far of
            each optimizer inside the given one.

    Raises:
        ValueError: if the policy returns an invalid value.
    """

    def __init__(self, policy, delays, optimizer):
        self._delays = delays
        self._optimizer = optimizer
        self._factors = [
            [
                factor(policy, name, delay, above=0)
                for name in ("learning_rate", "decayed_learning_rate")
            ]
            for delay in delays
        ]
        with tf.device(placement.this_host()):
            self.variables = [
                tf.Variable(tf.zeros_like(rate), trainable=False)
                for rate in optimizer.learning_rates()
            ]

    def note(self):
        """Records γ_t; call this before any other method in iteration t."""
        rates = self._optimizer.learning_rates()
        for highest, rate in zip(self.variables, rates):
            highest.assign(tf.maximum(highest, rate))

    def of_module(self, k, rates):
        """Returns a module's learning rates, in place of the optimizer's.

        Args:
            k: int, the number of the module, from 0.
            rates: list of scalar tensors, one for each optimizer inside the
                given one.

        Returns:
            List like `rates`.
        """
        highest_share, decayed_share = self._factors[k]
        if highest_share == decayed_share:
            return [rate * highest_share for rate in rates]
        found = []
        for rate, highest in zip(rates, self.variables):
            # Valid before the first iteration and for a coming rise, too.
            now, highest = (tf.cast(r, "float64") for r in (rate, highest))
            share = tf.math.divide_no_nan(now, tf.maximum(now, highest))
            found.append(tf.cast(
                now * highest_share**share * decayed_share**(1 - share),
                rate.dtype,
            ))
        return found

    def ahead(self):
        """Returns the learning rates with which modules look ahead.

        Returns:
            Tuple of two lists with one list for each module: for plays and
            for replays.
        """
        return tuple(
            [
                [self.of_module(k, rates)] for k, rates in enumerate(
                    self._optimizer.coming_learning_rates(horizons)
                )
            ]
            for horizons in (self._delays, [1] * len(self._delays))
        )
