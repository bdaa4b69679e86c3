"""What modules do about the delay of their gradients."""

import math
import numbers
from typing import Any

import keras


@keras.saving.register_keras_serializable("fr_keras")
class DelayPolicy:
    """Sets what modules do about the delay of their gradients.

    How far they look ahead, and their learning rate, momentum and clipping.

    The gradient of module k comes s = K − k iterations late. For a quadratic
    of curvature λ, with momentum μ,

        w_{t+1} = (1 + μ) w_t − μ w_{t−1} − γ λ ŵ_{t−s},

    the largest stable γ λ / (1 − μ) is 38 at s = 0 and μ = 0.9, but 1.0 at
    s = 1, 0.35 at s = 3 and 0.15 at s = 7: momentum goes on in the old
    direction before the answer to it is there. Three things follow.

    - *Play* takes place where momentum alone will have carried the weights
      when the answer to it has been applied, ŵ = w + (μ + … + μ^{s+1}) Δ with
      the last step Δ. With it 3.0, 0.72 and 0.24 are stable, which for
      momentum up to 0.95 is within 4 % of what the best factor has.
    - *Gradients* are computed where momentum would carry the weights in the
      end, w + μ / (1 − μ) Δ. This point moves by −γ / (1 − μ) times the
      gradient *there*, as by gradient descent without momentum. The last
      module, which is not late, must not oscillate either, since the error
      gradients that it sends are used when it would be on its way back. So it
      is stable to γ λ / (1 − μ) = 2.0, like the others, and no longer to 38.
    - *Learning rates* fall like what is stable, about as 1 / (1 + s), where
      that of the optimizer is the highest until now. What is stable does not
      change when a schedule lowers it, so that late modules then lose less,
      1 / √(1 + s) in the end.

    Updates are always those of the true weights. Subclass it to choose
    otherwise.

    Args:
        rate_exponent: float, p: the learning rate of a module is divided by
            (1 + s)^p where it is highest, and by (1 + s)^(p/2) where it has
            fallen to 0. 0 leaves all learning rates as they are.

    Example:

    ```python
    class Linear(fr_keras.DelayPolicy):
        def play(self, delay, momentum):
            return delay  # As many steps like the last.

    model = fr_keras.FeaturesReplay(network, 4, delay_policy=Linear(0.5))
    ```
    """

    def __init__(self, rate_exponent: float = 1.0) -> None:
        if not isinstance(rate_exponent, numbers.Real) or not (
            0 <= rate_exponent < math.inf
        ):
            raise ValueError(
                "`rate_exponent` must be a finite number, at least 0. "
                f"Received: {rate_exponent=}"
            )
        self.rate_exponent: float = rate_exponent

    def play(self, delay: int, momentum: float) -> float:
        """How far ahead a new mini-batch is played.

        Args:
            delay: int, s, how many updates of the module there will have been
                when the error gradient of the mini-batch is back.
            momentum: float, μ of the module's optimizer, 0 if it has none.

        Returns:
            float, f: at w + f Δ.
        """
        return sum(momentum**j for j in range(1, delay + 2)) if delay else 0.0

    def replay(self, delay: int, momentum: float) -> float:
        """How far ahead gradients are computed: replays, and the last module.

        Args:
            delay: as for `play`.
            momentum: as for `play`.

        Returns:
            float, f: at w + f Δ.
        """
        del delay
        return momentum / (1 - momentum) if momentum < 1 else 0.0

    def learning_rate(self, delay: int) -> float:
        """What the highest learning rate of a module is multiplied by.

        Args:
            delay: int, s, by how many iterations its gradient is late.

        Returns:
            float.
        """
        return (1 + delay) ** -self.rate_exponent

    def decayed_learning_rate(self, delay: int) -> float:
        """What it is multiplied by when it has all but decayed.

        In between, at a share r of the highest until now, the factor is
        `learning_rate(s)`^r times `decayed_learning_rate(s)`^(1 - r).

        Args:
            delay: as for `learning_rate`.

        Returns:
            float.
        """
        return self.learning_rate(delay) ** 0.5

    def momentum(self, delay: int, momentum: float) -> float:
        """The momentum of a module's optimizer, β₁ for Adam and its kin.

        Args:
            delay: as for `learning_rate`.
            momentum: float, that of the optimizer given to `compile`.

        Returns:
            float, from 0 to below 1.
        """
        del delay
        return momentum

    def clipping(self, delay: int) -> float:
        """What `clipnorm`, `global_clipnorm` or `clipvalue` is multiplied by.

        By default 1 / √(1 + s). Where the optimizer given to `compile` has
        none of them, nothing is clipped.

        Args:
            delay: as for `learning_rate`.

        Returns:
            float.
        """
        return (1 + delay) ** -0.5

    def get_config(self) -> dict[str, Any]:
        return {"rate_exponent": self.rate_exponent}

    @classmethod
    def from_config(cls, config):
        return cls(**config)


def factor(
    policy, method, *args, above=-math.inf, least=-math.inf, below=math.inf
):
    """What a policy says, seen to be a finite number.

    Args:
        policy: `DelayPolicy`.
        method: str, the name of the method that says it.
        *args: of the method.
        above: float, what it must be more than.
        least: float, what it must be at least.
        below: float, what it must be less than.

    Returns:
        float.

    Raises:
        ValueError: if it is none.
    """
    value = getattr(policy, method)(*args)
    if not isinstance(value, numbers.Real) or not (
        above < value < below and value >= least
    ):
        bounds = "".join(
            f" {what} {bound}" for what, bound in
            (("above", above), ("at least", least), ("below", below))
            if abs(bound) < math.inf
        )
        raise ValueError(
            f"`{method}` of a DelayPolicy must return a finite number{bounds}. "
            f"Received: {value!r} of {type(policy).__name__}.{method}{args}"
        )
    return float(value)
