"""Whether the steps of modules go downhill."""

import collections
import math
import statistics

from fr_keras.callbacks.diagnostics.diagnostic import (
    ProbeDiagnostic,
    Writer,
    per_module,
)
from fr_keras.engine.user_warnings import warn


class DownhillSteps(ProbeDiagnostic):
    """Logs how many of a module's steps go downhill.

    A late gradient may point the right way, as σ shows, while the module still
    goes the wrong way: momentum continues in the direction of gradients that
    were answered long ago, then turns back, and the module oscillates. So the
    test is on the last step of the optimizer, Δ_k = w_k^t - w_k^{t-1}: whether

        ⟨∇_k f(w^t), Δ_k⟩ < 0

    on the next mini-batch, from which the module has not learned yet. The log
    is the share of the last probes for which this holds. Near the largest
    learning rate, back-propagation also has 0.4 to 0.5; a module below 0.2
    oscillates, which is reported by a single warning.

    The logs are `downhill/module_k` for the late modules, k < K, NaN for the
    last. They need an optimizer whose state contains its last step: SGD with
    momentum, Adam or AdamW. Other optimizers give no values.

    Args:
        every: int, iterations between probes; modules take turns.
        window: int, number of probes of a module whose share is logged, at
            least 1. The warning needs as many.
        writer: as for `Diagnostic`.

    Raises:
        ValueError: if `every` or `window` is below 1; see also
            `ProbeDiagnostic`.

    Example:

    ```python
    model.fit(x, y, callbacks=[fr_keras.diagnostics.DownhillSteps(every=5)])
    ```
    """

    of_modules = ("downhill",)

    def __init__(
        self, every: int = 50, window: int = 20,
        writer: Writer | None = None,
    ) -> None:
        super().__init__(every, writer)
        if window < 1:
            raise ValueError(
                "`window` must be at least 1 probe. "
                f"Received: window={window}"
            )
        self.window = window
        self._are_downhill: dict = collections.defaultdict(
            lambda: collections.deque(maxlen=window)
        )
        self._has_warned = False

    def values(self, measured):
        for k, of_module in measured.modules.items():
            # There is no step before the first.
            if math.isfinite(of_module.step) and of_module.step:
                self._are_downhill[k].append(of_module.step < 0)
        shares = {
            k: statistics.mean(map(float, found))
            for k, found in self._are_downhill.items()
        }
        for k, share in shares.items():
            if share < _FEW and len(self._are_downhill[k]) == self.window:
                self._warn(k, share)
        return per_module("downhill", shares)

    def _warn(self, k, share):
        if self._has_warned:
            return
        self._has_warned = True
        warn(
            f"Module {k + 1} oscillates: only {share:.0%} of its last "
            f"{self.window} probed steps went downhill. Its gradients are "
            f"{self.model.delays[k]} iterations late, too late for its "
            "learning rate and momentum. Predict weights "
            "(`weight_prediction=True`), clip gradients (`global_clipnorm` of "
            "the optimizer), warm up or lower the learning rate, or use fewer "
            "modules or an exact pipeline (fr_keras.GPipe). See "
            "docs/delays.md."
        )


# Of 20 steps in random directions, the share is hardly ever less.
_FEW = 0.2
