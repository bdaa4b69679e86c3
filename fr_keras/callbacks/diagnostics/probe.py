"""The probe: the gradients that modules are about to use, and the true ones.

Between two iterations, at the weights w^t, module k < K is about to be updated
with g_k^t, from the mini-batch of iteration t - d_k and an equally old δ_k^t;
d_k is its delay, K - k iterations. A probe computes g_k^t, and for the same
mini-batch back-propagates through all modules at w^t: the true gradient ∇_k f
and the true error gradient ∂f/∂h_k. The diagnostics compare the two. For a
module without delay they are the same, so it is not probed.

Training is not changed, and nothing is computed within its graph. The past data
that a probe needs (one mini-batch, the state it was played from, so that
dropout is the same, and the features h_k computed from it then) are taken from
the calls that contain them.
"""

import collections
import dataclasses
import functools
import math
import weakref

import numpy as np
import tensorflow as tf

from fr_keras.callbacks.diagnostics.full_gradient import FullGradient
from fr_keras.callbacks.diagnostics.true_gradient import (
    TrueGradient,
    dot,
    function_of,
    unscaled,
)
from fr_keras.delays.look_ahead import last_steps
from fr_keras.engine.recording import Recorder, Selection, attach, detach


@dataclasses.dataclass(frozen=True)
class ModuleProbe:
    """Measurements of one module for one mini-batch.

    Attributes:
        inner_product: float, ⟨∇_k f, g_k⟩.
        true: float, ‖∇_k f‖².
        used: float, ‖g_k‖².
        residual: float, ‖δ_k - ∂f/∂h_k‖².
        true_delta: float, ‖∂f/∂h_k‖².
        drift: float, ‖h̃_k - h_k‖², how far the features of the replay are
            from those of the play; NaN where nothing is replayed.
        features: float, ‖h_k‖², or NaN.
        step: float, ⟨∇_k f, Δ_k⟩ with the last step Δ_k of the optimizer; NaN
            if its state does not contain it.
    """

    inner_product: float
    true: float
    used: float
    residual: float = 0.0
    true_delta: float = math.nan
    drift: float = 0.0
    features: float = math.nan
    step: float = math.nan


@dataclasses.dataclass(frozen=True)
class Measured:
    """The result of a probe.

    Attributes:
        step: int, t, the number of previous iterations.
        loss: float, f(w^t) on the mini-batch.
        modules: dict from the numbers of modules, from 0, to `ModuleProbe`.
    """

    step: int
    loss: float
    modules: dict


@dataclasses.dataclass(frozen=True)
class _Selection(Selection):
    """Selects the data that probes need from the iterations of a call.

    Args:
        wanted: tuple of pairs of a module's number and an iteration's number
            in the call.
    """

    wanted: tuple

    def __call__(self, plays, calls):
        return {
            (k, i): (plays[i].states, plays[i].outputs[k])
            for k, i in self.wanted
        }


class Probe(Recorder):
    """Probes one module after the other, every few iterations.

    Modules take turns, so that the cost does not grow with K. Create it by
    `of`, which lets the callbacks of a model share it.

    Args:
        model: algorithm, such as `fr_keras.FeaturesReplay`.
        every: int, iterations between probes. A probe takes place after the
            call of the training function that completes them.

    Attributes:
        every: int.
        step: int, number of iterations run.
        is_due: bool, whether a probe is due.
        batch: tuple `(x, y, sample_weight)`, the last mini-batch, or `None`.
    """

    def __init__(self, model, every):
        self.every = every
        self.fit = None
        self.step = model.optimizer.global_step
        self.is_due = False
        self.batch = None
        self._true_gradient = None
        self._users = 0
        # (The model has the probe among its recorders.)
        self._model = weakref.proxy(model)
        self._late = {
            k: delay for k, delay in enumerate(model.delays)
            if delay and model.pipeline.modules[k].learns
        }
        self._turns = collections.deque(self._late or [None])
        # From a late module and an iteration to the data it was played with.
        self._records = {}
        self._measured = None
        self._functions = {}
        self._full_gradients = {}
        self._latest = {}

    @classmethod
    def of(cls, model, every, fit):
        """Returns the probe of a model, to be given back by `release`.

        Args:
            model: as for `Probe`.
            every: as for `Probe`.
            fit: as for `fr_keras.engine.recording.attach`.

        Returns:
            `Probe`.

        Raises:
            ValueError: if the model's gradients are neither true nor late, or
                a probe with another `every` is active.
        """
        _check(model)
        probe = next(
            (r for r in model.recorders if isinstance(r, cls) and r.fit is fit),
            None,
        )
        if probe is None:
            probe = cls(model, every)
            attach(model, probe, fit)
        elif probe.every != every:
            raise ValueError(
                "All callbacks that probe a model must have the same `every`, "
                f"here {probe.every}. Received: every={every}"
            )
        probe._users += 1
        return probe

    def release(self):
        """Ends the use by one callback; the last one removes the probe."""
        self._users -= 1
        if not self._users:
            detach(self._model, self)

    def begin(self, num_steps):
        horizon = max(self._late.values(), default=0)
        wanted = []
        # Of this call and the next ones, if equally long, those that complete
        # iterations for a probe.
        for ahead in range(0, horizon, num_steps):
            end = self.step + num_steps + ahead
            if end // self.every > (end - num_steps) // self.every:
                wanted += [
                    (k, num_steps + ahead - delay)
                    for k, delay in self._late.items()
                    if 0 <= num_steps + ahead - delay < num_steps
                ]
        return _Selection(tuple(wanted)) if wanted else None

    def end(self, batches, selected):
        begin, self.step = self.step, self.step + len(batches)
        self.batch = batches[-1]
        self.is_due = self.step // self.every > begin // self.every
        for (k, i), played in (selected or {}).items():
            self._records[k, begin + i] = batches[i], *played
        # Records older than any delay are not needed any more.
        oldest = self.step - max(self._late.values(), default=0)
        self._records = {
            key: record for key, record in self._records.items()
            if key[1] >= oldest
        }

    def read(self):
        """Probes the module whose turn it is, if a probe is due.

        Returns:
            `Measured`, the same for all callers after the same call of the
            training function, or `None`.
        """
        if not self.is_due:
            return None
        if self._measured is None or self._measured.step != self.step:
            self._measured = self._probe()
        return self._measured

    def is_warm(self):
        """Whether all modules have gradients."""
        training = self._model.training
        return training.num_iterations >= self._model.num_warmup_steps

    def _probe(self):
        k = self._turns[0]
        if k is None:
            args = self.batch, self._current_states, None
        else:
            args = self._records.get((k, self.step - self._late[k]))
        # Without a record, calls were not as long as expected.
        if args is None or not self.is_warm():
            return None
        self._turns.rotate(-1)
        loss, found = self._function(self._compare, k)(*args)
        return Measured(self.step, float(loss), {
            j: ModuleProbe(*np.asarray(numbers).tolist())
            for j, numbers in found.items()
        })

    def read_all(self, dataset):
        """Probes all modules against a dataset's gradient, if it is due.

        Args:
            dataset: as for `FullGradient`.

        Returns:
            Tuple `(loss, true, used)`: float, f(w^t) over the dataset; its
            gradient, a list of tensors for each module; and likewise the
            gradients g_k^t that would update the modules now (those of modules
            without delay are of the last mini-batch). `None` if no probe is
            due, or during warm-up.
        """
        if not self.is_due or not self.is_warm():
            return None
        step, *found = self._latest.get(id(dataset), (None,))
        if step != self.step:
            if id(dataset) not in self._full_gradients:
                full_gradient = FullGradient(self._model, dataset)
                self._full_gradients[id(dataset)] = full_gradient
            loss, true = self._full_gradients[id(dataset)]()
            found = loss, true, self._function(self._used_gradients)(self.batch)
            self._latest[id(dataset)] = self.step, *found
        return found

    def _function(self, function, *args):
        """Returns a function for use between iterations, traced once."""
        if self._true_gradient is None:
            self._true_gradient = TrueGradient(self._model)
        key = function.__name__, args
        if key not in self._functions:
            self._functions[key] = function_of(
                self._model, functools.partial(function, *args)
            )
        return self._functions[key]

    @property
    def _current_states(self):
        """The current state of all modules, for `TrueGradient`."""
        return [[] for _ in self._model.pipeline.modules]

    def _used_gradients(self, batch):
        modules = self._model.pipeline.modules
        exact = [k for k in range(len(modules)) if k not in self._late]
        _, gradients, _ = self._true_gradient(
            batch, self._current_states, exact[0]
        )
        for k in self._late:
            with tf.device(modules[k].device):
                gradients[k], *_ = self._model.pipeline.next_update(k)
        found = []
        for module, of_module in zip(modules, gradients):
            with tf.device(module.device):
                found.append(unscaled(module, of_module or []))
        return found

    def _compare(self, k, batch, states, made):
        """Computes the numbers of a probe, as tensors.

        Args:
            k: int, the module to probe, or `None` for a model without delays.
            batch: tuple `(x, y, sample_weight)`.
            states: list of K lists of tensors, from which it was played.
            made: `Features` that module k computed from it.

        Returns:
            Tuple `(loss, numbers)`, the second a dict from module numbers to
            vectors of the arguments of `ModuleProbe`.
        """
        modules = self._model.pipeline.modules
        loss, gradients, deltas = self._true_gradient(batch, states, k or 0)
        found = {}
        for j, module in enumerate(modules):
            if j in self._late or gradients[j] is None:
                continue
            with tf.device(module.device):
                true = unscaled(module, gradients[j])
                found[j] = tf.stack([dot(true, true)] * 3)
        if k is None:
            return loss, found
        module = modules[k]
        with tf.device(module.device):
            used, delta, replayed = self._model.pipeline.next_update(k)
            used, true, delta, true_delta = (
                unscaled(module, tensors) for tensors in (
                    used, gradients[k], delta.tensors, deltas[k].tensors
                )
            )
            numbers = [
                dot(true, used), dot(true, true), dot(used, used),
                *_distance(delta, true_delta),
            ]
            if replayed is None:
                numbers += [tf.constant(math.nan, tf.float64)] * 2
            else:
                numbers += _distance(
                    module.differentiated(replayed),
                    module.differentiated(made),
                )
            steps = last_steps(module)
            numbers.append(
                tf.constant(math.nan, tf.float64) if steps is None
                else dot(true, steps)
            )
            found[k] = tf.stack(numbers)
        return loss, found


def _check(model):
    """Rejects models whose gradients cannot be probed."""
    if getattr(model, "delays", None) is None:
        raise ValueError(
            "Probes need an algorithm with true or delayed gradients, such as "
            f"fr_keras.FeaturesReplay. Received: {type(model).__name__}"
        )
    if any(model.delays) and getattr(model, "num_microbatches", 1) > 1:
        raise ValueError(
            "Probes of late gradients repeat plays of whole mini-batches, so "
            "they need `num_microbatches=1`. "
            f"Received: num_microbatches={model.num_microbatches}"
        )


def _distance(a, b):
    """‖a - b‖² and ‖b‖², of lists of tensors or `None`."""
    difference = [None if x is None else x - y for x, y in zip(a, b)]
    return [dot(difference, difference), dot(b, b)]
