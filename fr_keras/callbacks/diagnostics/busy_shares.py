"""Busy shares: when each module works in a call of a real training."""

import dataclasses
import io
import math
import os
import statistics

import tensorflow as tf

from fr_keras.callbacks.diagnostics.diagnostic import (
    Diagnostic,
    Writer,
    checked,
    per_module,
)
from fr_keras.engine import private
from fr_keras.engine.recording import Recorder, Selection, attach, detach
from fr_keras.planning.simulation import Event
from fr_keras.visualization.timeline import plot_timeline

# The timeline's kind of work of each function of the algorithms.
_KINDS = {
    "play": "play",
    "forward": "play",
    "_forward_microbatch": "play",
    "replay": "replay",
    "backward": "backward",
    "_backward_microbatch": "backward",
    "_input_of_microbatch": "backward",
    "_weights_of_microbatch": "weights",
    "_learn_batch": "learn",
    "update": "update",
    "_update_copy": "update",
}


class BusyShares(Diagnostic):
    """Logs the share of time in which each module is at work.

    Every few iterations one call of the training function is timed: when all
    inputs of each function of the modules were available, and when its results
    were. A module's busy share is the part of the time, from the first such
    moment of the call to the last, in which one of its functions was at work.
    With one iteration per call modules wait for each other; with many, those
    of Features Replay are always busy.

    The clock is that of the host, which is correct for CPU devices. A GPU
    works later than its work is submitted: use its profile instead.

    The logs are `busy_share/module_1` to `busy_share/module_K`, NaN for an
    algorithm whose iteration is one function, such as `fr_keras.Backprop`.

    Args:
        every: int, iterations between timed calls. The first is timed as soon
            as all modules work, after warm-up.
        to_file: str or path of a picture of the timeline of the latest call,
            or `None`. Its extension sets the format.
        writer: as for `Diagnostic`; that of the whole model also gets the
            timeline, as an image.

    Attributes:
        events: list of `simulation.Event`, of the latest timed call.

    Raises:
        ValueError: if `every` is below 1; when training begins, if op
            determinism is enabled, which excludes a clock.

    Example:

    ```python
    model.fit(x, y, callbacks=[
        fr_keras.diagnostics.BusyShares(every=500, to_file="timeline.png")
    ])
    ```
    """

    def __init__(
        self, every: int = 500, to_file: str | os.PathLike[str] | None = None,
        writer: Writer | None = None,
    ) -> None:
        super().__init__(writer)
        self.every = checked(every)
        self.to_file = to_file
        self.events: list[Event] = []
        self._timer = None

    def on_train_begin(self, logs=None):
        if private.is_op_determinism_enabled():
            raise ValueError(
                "BusyShares needs a clock, which TensorFlow lacks if ops must "
                "be deterministic; use it without "
                "tf.config.experimental.enable_op_determinism(). Received: op "
                "determinism enabled"
            )
        self._timer = _Timer(
            self.every, self.model.optimizer.global_step,
            self.model.num_warmup_steps,
        )
        attach(self.model, self._timer, self.params)
        self._latest = per_module(
            "busy_share", dict.fromkeys(range(self.model.num_modules), math.nan)
        ) | self._latest

    def on_train_batch_end(self, batch, logs=None):
        events, self._timer.events = self._timer.events, []
        if not events:
            return
        self.events = events
        step = self._timer.step
        self.log(
            per_module("busy_share", shares(events, self.model.num_modules)),
            step,
        )
        if self.to_file is not None:
            plot_timeline(
                events, self.to_file, num_modules=self.model.num_modules
            )
        if self.writer is not None:
            picture = io.BytesIO()
            plot_timeline(
                events, picture, f"iterations before {step}",
                num_modules=self.model.num_modules,
            )
            with self.writer_of().as_default():
                tf.summary.image(
                    "timeline",
                    tf.io.decode_png(picture.getvalue(), 4)[tf.newaxis],
                    step,
                )

    def on_train_end(self, logs=None):
        detach(self.model, self._timer)


def shares(events, num_modules=None):
    """Computes the share of time in which each module is at work.

    Args:
        events: list of `fr_keras.planning.simulation.Event`. Module number
            i K + k is copy i of module k.
        num_modules: int, K, or `None` if there are no copies.

    Returns:
        Dict from the numbers of modules, from 0, to floats: the mean over the
        copies of each.
    """
    span = max(e.stop for e in events) - min(e.start for e in events)
    busy = {}
    for module in sorted({event.module for event in events}):
        busy[module], until = 0.0, float("-inf")
        for event in sorted(events, key=lambda event: event.start):
            if event.module == module and event.stop > until:
                busy[module] += event.stop - max(event.start, until)
                until = event.stop
    num_modules = num_modules or len(busy)
    copies = {}
    for module, seconds in busy.items():
        copies.setdefault(module % num_modules, []).append(
            seconds / span if span else 0.0
        )
    return {
        module: statistics.mean(of_copies)
        for module, of_copies in copies.items()
    }


@dataclasses.dataclass(frozen=True)
class _Timing(Selection):
    """Selects the times of all calls."""

    timed = True

    def __call__(self, plays, calls):
        return {
            (i, call.module, _KINDS[call.name]): (call.start, call.stop)
            for i, call in enumerate(calls) if call.name in _KINDS
        }


class _Timer(Recorder):
    """Times a call after warm-up, and one every few iterations.

    Attributes:
        step: int, number of iterations run.
        events: list of `Event` of the last call, empty if it was not timed.
    """

    def __init__(self, every, step, num_warmup_steps):
        self.fit = None
        self.step = step
        self._first = max(step, num_warmup_steps)
        self._has_timed = False
        self.events: list[Event] = []
        self._every = every
        self._is_due = False
        self._ready = set()

    def begin(self, num_steps):
        completes = (self.step + num_steps) // self._every
        self._is_due |= completes > self.step // self._every or (
            not self._has_timed and self.step >= self._first
        )
        return _Timing() if self._is_due else None

    def end(self, batches, selected):
        self.step += len(batches)
        self.events: list[Event] = []
        if selected is None:
            return
        # The first timed call is a graph of its own, whose functions are
        # prepared as it runs.
        if len(batches) in self._ready:
            self._is_due, self._has_timed = False, True
            self.events = [
                Event(module, kind, float(start), float(stop))
                for (_, module, kind), (start, stop) in selected.items()
            ]
        self._ready.add(len(batches))
