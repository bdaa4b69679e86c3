"""Base classes of the callbacks that log a quantity."""

import math
import re
from collections.abc import Callable
from typing import TypeAlias

import keras
import tensorflow as tf

from fr_keras.callbacks.diagnostics.probe import Probe
from fr_keras.engine.recording import check_has_no_replicas

Writer: TypeAlias = (
    tf.summary.SummaryWriter
    | Callable[[int | None], tf.summary.SummaryWriter]
)


class Diagnostic(keras.callbacks.Callback):
    """Logs quantities when measured, and the latest values every epoch.

    Put the callback before those that write logs. A quantity that was not
    measured yet is NaN.

    Args:
        writer: `tf.summary.SummaryWriter`, to which values are written at the
            iteration they belong to, or `None` for the logs of epochs only. Or
            a function of the number of a module, from 1, or of `None` for the
            whole model, that returns a writer: a module's writer gets
            `sigma/module_2` as `sigma`. If each has a directory of its own,
            TensorBoard draws all modules in one chart, in different colours.
    """

    def __init__(self, writer: Writer | None = None) -> None:
        super().__init__()
        self.writer = writer
        # Those in use, which `Checkpoints` flushes.
        self._writers: dict[int | None, tf.summary.SummaryWriter] = {}
        self._latest: dict[str, float] = {}

    def log(self, values, step):
        """Logs values.

        Args:
            values: dict from names to floats.
            step: int, the iteration, or `None` for the logs of epochs only.
        """
        self._latest |= values
        if self.writer is None or step is None:
            return
        for name, value in values.items():
            if not math.isfinite(value):
                continue
            tag, module = name, None
            if callable(self.writer):
                tag, module = without_module(name)
            with self.writer_of(module).as_default():
                tf.summary.scalar(tag, value, step)

    def writer_of(self, module=None):
        """Returns the writer of a module, if it has one of its own.

        Args:
            module: int, its number, from 1, or `None` for the whole model.

        Returns:
            `tf.summary.SummaryWriter`.
        """
        if not callable(self.writer):
            return self.writer
        if module not in self._writers:
            self._writers[module] = self.writer(module)
        return self._writers[module]

    @property
    def written(self) -> set[str]:
        """The names of the quantities that `writer` gets."""
        return set() if self.writer is None else {*self._latest}

    def on_epoch_end(self, epoch, logs=None):
        if logs is not None:
            logs.update(self._latest)


class ProbeDiagnostic(Diagnostic):
    """A diagnostic based on a probe.

    Every few iterations, between two calls of the training function, the next
    module in turn is probed (see `probe.py` beside this file): the gradient
    that it will use next is compared with the true gradient of the same
    mini-batch at the current weights. Callbacks that probe the same model
    share the cost of a probe.

    Args:
        every: int, iterations between two probes, at least 1.
        writer: as for `Diagnostic`.

    Raises:
        ValueError: if `every` is below 1; when training begins, if callbacks
            with different `every` probe the model, its gradients are neither
            true nor late, or it has replicas.
    """

    # Names of the logs of each module, and of those of the whole model.
    of_modules: tuple[str, ...] = ()
    of_model: tuple[str, ...] = ()

    def __init__(
        self, every: int = 50, writer: Writer | None = None
    ) -> None:
        super().__init__(writer)
        self.every = checked(every)
        self.probe = None

    def on_train_begin(self, logs=None):
        check_has_no_replicas(self.model, self)
        self.probe = Probe.of(self.model, self.every, self.params)
        modules = range(1, self.model.num_modules + 1)
        self._latest = {
            **{f"{n}/module_{k}": math.nan
               for n in self.of_modules for k in modules},
            **dict.fromkeys(self.of_model, math.nan),
            **self._latest,
        }

    def on_train_batch_end(self, batch, logs=None):
        measured = self.probe.read()
        if measured is not None:
            self.log(self.values(measured), measured.step)

    def on_train_end(self, logs=None):
        self.probe.release()
        self.probe = None

    def values(self, measured):
        """Returns the values to log after a probe (hook).

        Args:
            measured: `fr_keras.callbacks.diagnostics.probe.Measured`.

        Returns:
            Dict from names to floats.
        """
        raise NotImplementedError


def checked(every):
    """Checks and returns the number of iterations between measurements.

    Raises:
        ValueError: if it is below 1.
    """
    if every < 1:
        raise ValueError(
            "`every` must be at least 1 iteration. Received: "
            f"every={every}"
        )
    return every


def per_module(name, values):
    """Names the values of modules.

    Args:
        name: str.
        values: dict from the numbers of modules, from 0, to values.

    Returns:
        Dict from names, in which modules count from 1, to values.
    """
    return {f"{name}/module_{k + 1}": value for k, value in values.items()}


def without_module(name):
    """Takes the number of the module off the name of a value.

    Args:
        name: str, such as `"sigma/module_2"`.

    Returns:
        Tuple such as `("sigma", 2)`; `(name, None)` for that of a whole model.
    """
    found = re.fullmatch(r"(.+)/module_(\d+)", name)
    return (found[1], int(found[2])) if found else (name, None)


def ratio(a, b):
    """a / b, or NaN if b is 0."""
    return a / b if b else math.nan
