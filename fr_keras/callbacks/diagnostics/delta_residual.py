"""The residual of the new formulation: how stale error gradients are."""

import math

from fr_keras.callbacks.diagnostics.diagnostic import (
    ProbeDiagnostic,
    Writer,
    per_module,
    ratio,
)


class DeltaResidual(ProbeDiagnostic):
    """Logs how far each module's error gradient is from the true one.

    The δ_k that module k uses was computed with weights that have changed
    since. With w^t, on the mini-batch that module k replays, its residual is

        ‖δ_k^t - ∂f/∂h_k(w^t)‖²,

    also logged relative to ‖∂f/∂h_k(w^t)‖². Features Replay minimizes the
    objective Σ_k ‖δ_k - ∂f/∂h_k‖² + f. Here that is the sum of the latest
    residual of each module and the loss f of the latest probed mini-batch.

    The logs are `residual/module_k` and `relative_residual/module_k` for k
    from 1 to K, 0 for a module without delay; `objective`; and `probed_loss`,
    that f.

    Args:
        every: int, iterations between probes; modules take turns.
        writer: as for `Diagnostic`.

    Raises:
        ValueError: see `ProbeDiagnostic`.

    Reference: the new formulation in section 3 of
    [Training Neural Networks Using Features Replay](
    https://arxiv.org/abs/1807.04511).
    """

    of_modules = ("residual", "relative_residual")
    of_model = ("objective", "probed_loss")

    def __init__(
        self, every: int = 50, writer: Writer | None = None
    ) -> None:
        super().__init__(every, writer)
        self._residuals: dict = {}

    def values(self, measured):
        found = measured.modules
        self._residuals |= {k: of.residual for k, of in found.items()}
        values = {
            **per_module("residual", {k: m.residual for k, m in found.items()}),
            **per_module("relative_residual", {
                k: ratio(m.residual, m.true_delta) if m.residual else 0.0
                for k, m in found.items()
            }),
            "probed_loss": measured.loss,
        }
        learning = sum(m.learns for m in self.model.pipeline.modules)
        if len(self._residuals) == learning:
            values["objective"] = (
                math.fsum(self._residuals.values()) + measured.loss
            )
        return values
