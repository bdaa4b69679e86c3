"""The callback that handles numbers that are not finite."""

import logging

import keras
import tensorflow as tf

from fr_keras.callbacks.diagnostics.diagnostic import per_module
from fr_keras.engine.guard import (
    Guard,
    Guards,
    NonFiniteVariables,
    all_finite,
)
from fr_keras.engine.recording import (
    Recorder,
    attach,
    check_is_algorithm,
    detach,
)

_logger = logging.getLogger("fr_keras")


class NonFiniteError(ArithmeticError):
    """A loss, gradient or weight is infinite or not a number.

    Attributes:
        step: int, the iteration, from 0; for a weight, the one that would have
            been next.
        module: int, the number of the module, from 1.
        quantity: str, "loss", "gradient" or "weight".
    """

    def __init__(
        self, step: int, module: int | None, quantity: str, cause: str = "",
    ) -> None:
        self.step = step
        self.module = module
        self.quantity = quantity
        when = "Before" if quantity == "weight" else "In"
        super().__init__(
            f"{when} iteration {step} the {quantity} of module {module} was "
            f"not finite{cause}"
        )


class OnNaN(keras.callbacks.Callback):
    """Withholds updates that are not finite, and stops or continues training.

    Loss and gradients are checked in every iteration, on their own devices. A
    module whose gradient contains an infinity or a NaN is not updated in that
    iteration, and averages of batch normalization do not move to values that
    are not finite, so the weights stay intact. The event is noticed at the end
    of the call of the training function, before `fr_keras.Checkpoints` writes
    another checkpoint.

    Withholding does not help if the weights themselves are not finite, either
    from the beginning or after a step that was too large. Weights are checked
    when training begins and whenever anything was withheld; if they are not
    finite, training ends with either action.

    A gradient that overflows under a `keras.optimizers.LossScaleOptimizer` is
    not a failure: that optimizer skips the update itself and lowers the scale.

    Args:
        action: "stop" ends training with `NonFiniteError`; "skip" continues
            without the withheld updates and counts them. A loss that is not
            finite is then left out of the epoch's loss, which is NaN if there
            is no other.

    Attributes:
        skipped: list of K ints, the number of withheld updates of each module.
            Epoch logs contain them as `skipped_updates/module_1` and so on.

    Raises:
        ValueError: for another `action`.
        NonFiniteError: by `fit`, with "stop", or if weights are not finite.

    Example:

    ```python
    model.fit(x, y, callbacks=[fr_keras.OnNaN("skip")])
    ```
    """

    def __init__(self, action: str = "stop") -> None:
        super().__init__()
        if action not in ("stop", "skip"):
            raise ValueError(
                f"`action` must be 'stop' or 'skip'. Received: {action=}"
            )
        self.action = action
        self.skipped: list = []
        self._batches = None

    def set_model(self, model):
        check_is_algorithm(model, self)
        super().set_model(model)

    def on_train_begin(self, logs=None):
        self._check_weights()
        model = self.model
        self.skipped = [0] * model.num_modules
        self._has_warned = False
        for module in model.all_modules:  # Copies must do the same.
            module.guard = Guard(module.device)
        model.objective.guard = Guard(model.devices[-1])
        self._guards = Guards([
            model.objective.guard,
            *(module.guard for module in model.pipeline.modules),
        ])
        delays = model.delays or [0] * model.num_modules
        self._delays = delays
        self._batches = _LastBatches(max(delays))
        attach(model, self._batches, self.params)
        model.make_train_function(force=True)

    def on_train_batch_end(self, batch, logs=None):
        (losses, ago), *of_modules = self._guards.read()
        last = len(of_modules) - 1
        found = [(-ago, -last - 1, last, "loss")] if losses else []
        for k, (withheld, ago) in enumerate(of_modules):
            self.skipped[k] += withheld
            if withheld:
                found.append((-ago, -k, k, "gradient"))
        if not found:
            return
        # The earliest; among these the loss, or the module nearest to it.
        ago, _, k, quantity = min(found)
        step = self.model.optimizer.global_step + ago
        delay = self._delays[k] if quantity == "gradient" else 0
        error = NonFiniteError(step, k + 1, quantity, self._cause(ago - delay))
        if self.action == "stop":
            raise error
        self._check_weights()
        if not self._has_warned:
            _logger.warning("%s; such updates are skipped", error)
        self._has_warned = True

    def _check_weights(self):
        for k, module in enumerate(self.model.pipeline.modules, start=1):
            spoiled = NonFiniteVariables(
                module.submodel.variables, module.device
            ).first()
            if spoiled is not None:
                raise NonFiniteError(
                    self.model.optimizer.global_step, k, "weight",
                    f": '{spoiled.path}'; assign finite values to it, since "
                    "skipping updates does not repair it",
                )

    def _cause(self, ago):
        """Describes the cause, as far as the mini-batch reveals it."""
        batches = self._batches.latest
        if -ago > len(batches):
            return ""
        features, _, _ = batches[ago]
        if not _is_finite(features):
            return "; its mini-batch is not finite either"
        for k, module in enumerate(self.model.modules, start=1):
            try:
                with tf.device(self.model.devices[k - 1]):
                    features = module(features)
            except Exception:  # Modules may depend on the training step.
                return ""
            if not _is_finite(features):
                return (
                    f"; the output of module {k} for its mini-batch is not "
                    "finite either"
                )
        return ""

    def on_epoch_end(self, epoch, logs=None):
        if logs is not None and self.action == "skip":
            logs.update(
                per_module("skipped_updates", dict(enumerate(self.skipped)))
            )

    def on_train_end(self, logs=None):
        detach(self.model, self._batches)  # (`fit` itself removes the guards.)


class _LastBatches(Recorder):
    """Keeps the batches that the last call worked on.

    Args:
        delay: int, by how many iterations the oldest of them may be late.

    Attributes:
        latest: list of tuples `(x, y, sample_weight)`, oldest first.
    """

    def __init__(self, delay):
        self.fit = None
        self.latest = []
        self._delay = delay

    def begin(self, num_steps):
        return None

    def end(self, batches, selected):
        self.latest = [*self.latest, *batches][-len(batches) - self._delay:]


def _is_finite(nest):
    tensors = [
        tf.convert_to_tensor(tensor)
        for tensor in tf.nest.flatten(nest, expand_composites=True)
        if tensor is not None
    ]
    floating = [tensor for tensor in tensors if tensor.dtype.is_floating]
    return not floating or bool(all_finite(floating))
