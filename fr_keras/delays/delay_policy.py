"""How modules compensate for the delay of their gradients."""

import math
import numbers
from typing import Any

import keras


@keras.saving.register_keras_serializable("fr_keras")
class DelayPolicy:
    """Sets how modules compensate for the delay of their gradients.

    This covers how far they look ahead, and their learning rate, momentum and
    clipping.

    The gradient of module k comes s = K − k iterations late. For a quadratic
    of curvature λ, with momentum μ,

        w_{t+1} = (1 + μ) w_t − μ w_{t−1} − γ λ ŵ_{t−s},

    the largest stable γ λ / (1 − μ) is 38 at s = 0 and μ = 0.9, but 1.0 at
    s = 1, 0.35 at s = 3 and 0.15 at s = 7: momentum continues in the old
    direction until the response to it arrives. Three things follow.

    - *Play* uses the weights to which momentum alone will have carried the
      module when the response to the play is applied,
      ŵ = w + (μ + … + μ^{s+1}) Δ with the last step Δ. With it, 3.0, 0.72 and
      0.24 are stable, which for momentum up to 0.95 is within 4 % of the limit
      with the best factor.
    - *Gradients* are computed where momentum would carry the weights in the
      end, w + μ / (1 − μ) Δ. This point moves by −γ / (1 − μ) times the
      gradient *there*, as in gradient descent without momentum. The last
      module, which is not late, must not oscillate either, since the error
      gradients that it sends are used when it would be on its way back. So it
      is stable up to γ λ / (1 − μ) = 2.0, like the others, and no longer up to
      38.
    - *Learning rates* fall like the stability limit, about as 1 / (1 + s),
      where the optimizer's rate is highest so far. The limit does not
      change when a schedule lowers the rate, so late modules then lose less,
      1 / √(1 + s) in the end.

    Updates always apply to the true weights. Subclass to choose otherwise.

    Args:
        rate_exponent: float, p: the learning rate of a module is divided by
            (1 + s)^p where it is highest, and by (1 + s)^(p/2) where it has
            fallen to 0. 0 leaves all learning rates as they are.

    Example:

    ```python
    class Linear(fr_keras.DelayPolicy):
        def play(self, delay, momentum):
            return delay  # Repeats the last step that many times.

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
        """Returns how far ahead a new mini-batch is played.

        Args:
            delay: int, s, the number of updates of the module until the error
                gradient of the mini-batch is back.
            momentum: float, μ of the module's optimizer, 0 if it has none.

        Returns:
            float, f: at w + f Δ.
        """
        return sum(momentum**j for j in range(1, delay + 2)) if delay else 0.0

    def replay(self, delay: int, momentum: float) -> float:
        """Returns how far ahead replays and the last module compute gradients.

        Args:
            delay: as for `play`.
            momentum: as for `play`.

        Returns:
            float, f: at w + f Δ.
        """
        del delay
        return momentum / (1 - momentum) if momentum < 1 else 0.0

    def learning_rate(self, delay: int) -> float:
        """Returns the factor of a module's highest learning rate.

        Args:
            delay: int, s, by how many iterations its gradient is late.

        Returns:
            float.
        """
        return (1 + delay) ** -self.rate_exponent

    def decayed_learning_rate(self, delay: int) -> float:
        """Returns the factor of a learning rate that has all but decayed.

        In between, at a share r of the highest so far, the factor is
        `learning_rate(s)`^r times `decayed_learning_rate(s)`^(1 - r).

        Args:
            delay: as for `learning_rate`.

        Returns:
            float.
        """
        return self.learning_rate(delay) ** 0.5

    def momentum(self, delay: int, momentum: float) -> float:
        """Returns the momentum for a module, β₁ for Adam and its variants.

        Args:
            delay: as for `learning_rate`.
            momentum: float, that of the optimizer passed to `compile`.

        Returns:
            float, from 0 to below 1.
        """
        del delay
        return momentum

    def clipping(self, delay: int) -> float:
        """Returns the factor of `clipnorm`, `global_clipnorm` or `clipvalue`.

        By default 1 / √(1 + s). If the optimizer passed to `compile` sets none
        of them, nothing is clipped.

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
    """Calls a method of a policy and checks that it returns a finite number.

    Args:
        policy: `DelayPolicy`.
        method: str, the name of the method.
        *args: arguments of the method.
        above: float, the result must be more than this.
        least: float, the result must be at least this.
        below: float, the result must be less than this.

    Returns:
        float.

    Raises:
        ValueError: if the result is not a finite number in this range.
    """
    value = getattr(policy, method)(*args)
    if not isinstance(value, numbers.Real) or not (
        above < value < below and value >= least
    ):
        bounds = " and".join(
            f" {what} {bound}" for what, bound in
            (("above", above), ("at least", least), ("below", below))
            if abs(bound) < math.inf
        )
        raise ValueError(
            f"`{method}` of a DelayPolicy must return a finite number{bounds}. "
            f"Received: {value!r} of {type(policy).__name__}.{method}{args}"
        )
    return float(value)
