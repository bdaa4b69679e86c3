"""Calls of `fit`: their callbacks and their position in the data."""

import functools
import inspect

import keras
import tensorflow as tf

from fr_keras.algorithms.evaluator import ModuleEvaluator
from fr_keras.algorithms.resuming import ResumingCallback
from fr_keras.batches.reading import reads
from fr_keras.engine import private


class ModuleFitter(ModuleEvaluator):
    """Lets `fit` resume an interrupted training.

    Attributes:
        epoch_iterator: Keras' iterator over the epochs of the running call of
            `fit`, or `None`.
        loss_guard: `guard.Guard` of the reported loss and metrics, or `None`;
            like the guards of modules, for one call of `fit`.
    """

    epoch_iterator = None
    loss_guard = None
    _is_fitting = False

    @reads
    @functools.wraps(keras.Model.fit)
    def fit(self, *args, **kwargs):
        fit = super().fit
        given = inspect.signature(fit).bind(*args, **kwargs).arguments
        given["callbacks"], late = self._arranged(given.get("callbacks"))
        self._is_fitting = True
        try:
            return fit(**given)
        finally:
            # These belong to this call, which an error may have ended.
            self._is_fitting = False
            self.epoch_iterator = None
            private.set_initial_epoch(self, None)
            self._take_guards_away()
            for callback in late:
                callback.after_fit()

    def _take_guards_away(self):
        if self.loss_guard is None and all(
            module.guard is None for module in self.modules_at_work
        ):
            return
        self.loss_guard = None
        for module in self.modules_at_work:
            module.guard = None
        self.train_function = None  # The guards are traced into it.

    def _arranged(self, callbacks):
        """Moves callbacks that resume training behind all others.

        Returns:
            Tuple of the callbacks for `fit`, and the list of those that resume.
        """
        listed = getattr(callbacks, "callbacks", callbacks) or []
        listed = list(keras.tree.flatten(listed))
        late = [c for c in listed if isinstance(c, ResumingCallback)]
        if not late:
            return callbacks, []
        others = [c for c in listed if not isinstance(c, ResumingCallback)]
        for callback in late:
            callback.before_fit(self, others)
        if hasattr(callbacks, "callbacks"):  # A Keras `CallbackList`.
            callbacks.callbacks[:] = others + late
            return callbacks, late
        return others + late, late

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        # Keras passes the iterator here before the first epoch begins, and
        # later that of the validation data.
        if self._is_fitting and self.epoch_iterator is None:
            self.epoch_iterator = iterator

    def get_metrics_result(self):
        results = super().get_metrics_result()
        if self.loss_guard is None:
            return results
        # If all batches were withheld, 0 would look like a very good loss.
        is_empty = tf.equal(private.loss_tracker(self).count, 0)
        return {
            name: _nan_if(is_empty, result) for name, result in results.items()
        }

    def _get_metrics_result_or_logs(self, logs):
        # An epoch resumed after its last batch has no logs, but counts.
        if not logs and float(private.loss_tracker(self).count):
            return self.get_metrics_result()
        return super()._get_metrics_result_or_logs(logs)


def _nan_if(condition, result):
    result = tf.convert_to_tensor(result)
    if not result.dtype.is_floating:
        return result
    return tf.where(condition, tf.constant(float("nan"), result.dtype), result)
