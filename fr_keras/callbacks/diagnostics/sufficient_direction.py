"""The sufficient direction constant σ."""

import collections
import statistics
from typing import Any

import tensorflow as tf

from fr_keras.callbacks.diagnostics.diagnostic import (
    ProbeDiagnostic,
    Writer,
    per_module,
)
from fr_keras.callbacks.diagnostics.probe import Measured, ModuleProbe
from fr_keras.callbacks.diagnostics.true_gradient import dot


class SufficientDirection(ProbeDiagnostic):
    """Logs σ: whether modules still go downhill with late gradients.

    For module k at weights w^t, with the true gradient ∇_k f(w^t) and the
    gradient g_k^t that the module uses,

        σ_k = median (⟨∇_k f, g_k⟩ / ‖∇_k f‖²),

    over the last probes of the module. (A ratio of means would be dominated by
    a single probe with a huge gradient, as is common at the start, until it has
    left the window.) The total σ is the mean of all σ_k, weighted by the
    median ‖∇_k f‖². Convergence is proven where σ stays above 0
    (Assumption 1, inequality (8): ⟨∇f, E[Σ_k g_k]⟩ ≥ σ ‖∇f‖²).
    Back-propagation has 1, and so do modules without delay, like the last,
    always. Below 0 a module goes uphill.

    ∇f is that of the mini-batch of g_k, unless `dataset` overrides this.

    The logs are `sigma/module_1` to `sigma/module_K` and `sigma/total`. The
    `writer` also gets two reference lines, `sigma_line/uphill_below` at 0 and
    `sigma_line/back_propagation` at 1.

    Args:
        every: int, iterations between probes. Modules take turns, unless a
            `dataset` is given.
        window: int, number of probes of a module for the median, at least 1.
        dataset: iterable of mini-batches `(x, y)` or `(x, y, sample_weight)`,
            the whole training set, for the exact ∇f: the mean over all
            mini-batches, weighted by their size; for small sets, since every
            probe goes through all of it. `None` for the mini-batch's.
        writer: as for `Diagnostic`.

    Raises:
        ValueError: if `every` or `window` is below 1; see also
            `ProbeDiagnostic`.

    Example:

    ```python
    sigma = fr_keras.diagnostics.SufficientDirection(every=50)
    model.fit(x, y, callbacks=[sigma, keras.callbacks.CSVLogger("log.csv")])
    ```

    Reference: Assumption 1 and inequality (8) of
    [Training Neural Networks Using Features Replay](
    https://arxiv.org/abs/1807.04511).
    """

    of_modules = ("sigma",)
    of_model = ("sigma/total",)

    def __init__(
        self, every: int = 50, window: int = 20, dataset: Any = None,
        writer: Writer | None = None,
    ) -> None:
        super().__init__(every, writer)
        if window < 1:
            raise ValueError(
                "`window` must be at least 1 probe. "
                f"Received: window={window}"
            )
        self.window = window
        self.dataset = dataset
        self._ratios: Any = collections.defaultdict(self._window)
        self._norms: Any = collections.defaultdict(self._window)

    def _window(self):
        return collections.deque(maxlen=self.window)

    def on_train_batch_end(self, batch, logs=None):
        if self.dataset is None:
            super().on_train_batch_end(batch, logs)
            return
        found = self.probe.read_all(self.dataset)
        if found is not None:
            loss, true, used = found
            measured = Measured(self.probe.step, loss, {
                k: ModuleProbe(*(
                    float(dot(*pair)) for pair in (
                        (true[k], of_module), (true[k], true[k]),
                        (of_module, of_module),
                    )
                ))
                for k, of_module in enumerate(used) if of_module
            })
            self.log(self.values(measured), measured.step)

    def log(self, values, step):
        super().log(values, step)
        if self.writer is not None:
            with self.writer_of().as_default():
                tf.summary.scalar("sigma_line/uphill_below", 0.0, step)
                tf.summary.scalar("sigma_line/back_propagation", 1.0, step)

    def values(self, measured):
        for k, of_module in measured.modules.items():
            # Without a gradient there is no direction to compare with.
            if of_module.true:
                self._ratios[k].append(of_module.inner_product / of_module.true)
                self._norms[k].append(of_module.true)
        ratios, norms = (
            {k: statistics.median(values) for k, values in windows.items()}
            for windows in (self._ratios, self._norms)
        )
        values = per_module("sigma", ratios)
        learning = sum(m.learns for m in self.model.pipeline.modules)
        if ratios and len(ratios) == learning:
            values["sigma/total"] = sum(
                ratios[k] * norms[k] for k in ratios
            ) / sum(norms.values())
        return values
