"""Feature drift: how far replayed features are from those of the play."""

import math

from fr_keras.callbacks.diagnostics.diagnostic import (
    ProbeDiagnostic,
    per_module,
    ratio,
)


class FeatureDrift(ProbeDiagnostic):
    """Logs how much the features of a mini-batch change until the replay.

    Module k computes h_k in play, and h̃_k in replay, K - k iterations later,
    from the same input with the weights of that time. Its drift is
    ‖h̃_k - h_k‖ / ‖h_k‖. The error gradient that the replay is multiplied by
    was computed for h_k.

    The logs are `feature_drift/module_k` for k from 1 to K; 0 for a module
    without delay, as it replays nothing.

    Args:
        every: int, iterations between probes; modules take turns.
        writer: as for `Diagnostic`.

    Raises:
        ValueError: see `ProbeDiagnostic`.
    """

    of_modules = ("feature_drift",)

    def values(self, measured):
        return per_module("feature_drift", {
            k: 0.0 if not of_module.drift else math.sqrt(
                ratio(of_module.drift, of_module.features)
            )
            for k, of_module in measured.modules.items()
        })
