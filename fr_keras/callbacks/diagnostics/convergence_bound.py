"""The convergence bound of the paper and the quantity that it bounds."""

import math
from typing import Any

import tensorflow as tf

from fr_keras.callbacks.diagnostics.diagnostic import (
    ProbeDiagnostic,
    Writer,
    ratio,
)
from fr_keras.callbacks.diagnostics.true_gradient import dot


class ConvergenceBound(ProbeDiagnostic):
    """Logs both sides of the bound on the gradient norm.

    With sums over the iterations since the first probe, iteration 0:

        (1 / Σγ_t) Σ γ_t ‖∇f(w^t)‖²
            ≤ (f(w^0) - f*) / (σ Σγ_t) + (L M / 2σ) Σγ_t² / Σγ_t.

    f and ∇f are measured on `dataset`, the same in every probe; iterations
    between two probes use the values of the later one. The constants, whose
    existence the theorem assumes, are estimated from the probes so far:

    - L, the Lipschitz constant of ∇f: the largest
      ‖∇f(w) - ∇f(w')‖ / ‖w - w'‖ of two consecutive probes.
    - M, the bound of E ‖Σ_k g_k‖²: the largest ‖Σ_k g_k‖².
    - σ: Σ ⟨∇f, Σ_k g_k⟩ / Σ ‖∇f‖² (see `SufficientDirection`).
    - f*, the least value of f: `minimum`.

    So the right-hand side is an estimate, not a proof, and the theorem is about
    SGD without momentum. The logs are `bound/left` and `bound/right`, NaN
    where σ is not above 0, and `bound/loss`, `bound/lipschitz`,
    `bound/second_moment` and `bound/sigma`.

    Args:
        dataset: iterable of mini-batches `(x, y)` or `(x, y, sample_weight)`:
            the training set, or as much of it as the time for a probe allows.
        minimum: float, f*; 0 is below any cross-entropy or squared error.
        every: int, iterations between probes.
        writer: as for `Diagnostic`.

    Raises:
        ValueError: see `ProbeDiagnostic`.

    Reference: the convergence theorem in section 4 of
    [Training Neural Networks Using Features Replay](
    https://arxiv.org/abs/1807.04511).
    """

    of_model = tuple(
        f"bound/{name}" for name in (
            "left", "right", "loss", "lipschitz", "second_moment", "sigma"
        )
    )

    def __init__(
        self, dataset: Any, minimum: float = 0.0, every: int = 50,
        writer: Writer | None = None,
    ) -> None:
        super().__init__(every, writer)
        self.dataset = dataset
        self.minimum = minimum
        self._before = None  # Gradient and weights of the last probe.
        self._first_loss = None
        self._step = None
        self._rates = self._squared_rates = self._weighted_norms = 0.0
        self._products = self._norms = 0.0
        self._lipschitz = self._second_moment = 0.0
        # Of the iterations since the last probe.
        self._new_rates = 0.0

    def on_train_batch_end(self, batch, logs=None):
        self._count_rates()
        found = self.probe.read_all(self.dataset)
        if found is not None:
            self.log(self._measure(*found), self.probe.step)

    def _count_rates(self):
        """Adds γ_t of the iterations of a call, each as after the call."""
        num_steps = self.probe.step - (self._step or 0)
        if self._step is not None and self._first_loss is not None:
            rate = float(self.model.optimizer.learning_rate)
            self._new_rates += num_steps * rate
            self._squared_rates += num_steps * rate**2
        self._step = self.probe.step

    def _measure(self, loss, true, used):
        weights = [
            [tf.identity(v.value) for v in module.trainable_variables]
            for module in self.model.pipeline.modules
        ]
        norm = _dot(true, true)
        self._products += _dot(true, used)
        self._norms += norm
        self._second_moment = max(self._second_moment, _dot(used, used))
        if self._before is None:
            self._first_loss = loss
        else:
            weight_change, gradient_change = (
                math.sqrt(_distance(new, old)) for new, old in zip(
                    (weights, true), self._before
                )
            )
            if weight_change:
                self._lipschitz = max(
                    self._lipschitz, gradient_change / weight_change
                )
        self._before = weights, true
        self._rates += self._new_rates
        self._weighted_norms += self._new_rates * norm
        self._new_rates = 0.0
        sigma = ratio(self._products, self._norms)
        values = {
            "bound/loss": loss,
            "bound/lipschitz": self._lipschitz,
            "bound/second_moment": self._second_moment,
            "bound/sigma": sigma,
            "bound/left": ratio(self._weighted_norms, self._rates),
            "bound/right": math.nan,
        }
        if sigma > 0 and self._rates:
            values["bound/right"] = (
                (self._first_loss - self.minimum)
                + self._lipschitz * self._second_moment / 2
                * self._squared_rates
            ) / (sigma * self._rates)
        return values


def _dot(a, b):
    """The inner product of gradients of all modules, float."""
    return math.fsum(float(dot(x, y)) for x, y in zip(a, b))


def _distance(a, b):
    """‖a - b‖² over all modules, float."""
    return math.fsum(
        float(dot(difference, difference)) for difference in (
            [x - y for x, y in zip(of_a, of_b)] for of_a, of_b in zip(a, b)
        )
    )
