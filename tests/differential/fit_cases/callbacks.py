"""Rows of callbacks, and of how often they are called."""

import keras
import numpy as np

from tests.differential.fit_cases.networks import case, two
from tests.differential.harness import EXAMPLES, fit_evaluate_predict


class Logs(keras.callbacks.Callback):
    """Keeps all logs of all batches and epochs."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def keep(self, when, logs):
        self.seen.append({
            "when": when,
            **{name: np.asarray(value) for name, value in (logs or {}).items()},
        })

    def on_train_batch_end(self, batch, logs=None):
        self.keep(f"batch {batch}", logs)

    def on_test_batch_end(self, batch, logs=None):
        self.keep(f"test {batch}", logs)

    def on_epoch_end(self, epoch, logs=None):
        self.keep(f"epoch {epoch}", logs)

    def on_train_end(self, logs=None):
        self.keep("end", logs)

    def on_test_end(self, logs=None):
        self.keep("test end", logs)


class Stop(keras.callbacks.Callback):
    """Ends training within its second epoch."""

    epoch = 0

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        self.model.stop_training = self.epoch == 1 and batch == 1


def fit_with(*make_callbacks, **more):
    """A run with callbacks, whose `seen` is compared."""

    def run(model, arguments):
        callbacks = [make() for make in make_callbacks]
        arguments = {"epochs": 4, **arguments, **more, "callbacks": callbacks}
        results = fit_evaluate_predict(model, arguments)
        results["seen"] = [getattr(c, "seen", None) for c in callbacks]
        results["rate"] = float(model.optimizer.learning_rate)
        return results

    return run


ROWS = {
    # Execution.
    "steps_per_execution": case(
        metrics=lambda: ["mae"], steps_per_execution=2,
        run=fit_with(Logs, epochs=2),
    ),
    "steps_per_execution of all": case(steps_per_execution=3),
    "run_eagerly": case(
        **two, loss="mse", metrics=lambda: {"one": "mae"}, run_eagerly=True
    ),
    "a batch for an epoch": case(fit={"batch_size": EXAMPLES}),
    "steps_per_epoch": case(fit={"steps_per_epoch": 2}),
    # Callbacks.
    "logs of batches": case(
        metrics=lambda: ["mae"], fit={"validation_split": 0.4},
        run=fit_with(Logs),
    ),
    "logs of batches, two outputs": case(
        "list", "list", loss=["mse", "mae"], run=fit_with(Logs)
    ),
    "LearningRateScheduler": case(
        run=fit_with(lambda: keras.callbacks.LearningRateScheduler(
            lambda epoch, rate: rate * 0.5 if epoch else rate
        ), Logs),
    ),
    "ReduceLROnPlateau": case(
        run=fit_with(lambda: keras.callbacks.ReduceLROnPlateau(
            "loss", 0.5, patience=1, min_delta=0.5
        ), Logs),
    ),
    "EarlyStopping": case(
        fit={"validation_split": 0.4},
        run=fit_with(lambda: keras.callbacks.EarlyStopping(
            min_delta=10.0, patience=2, restore_best_weights=True
        ), Logs),
    ),
    "stopped by a callback": case(
        run=fit_with(Stop, Logs),
    ),
    "SwapEMAWeights": case(
        optimizer=lambda: keras.optimizers.SGD(
            0.05, use_ema=True, ema_momentum=0.5
        ),
        fit={"validation_split": 0.4},
        run=fit_with(lambda: keras.callbacks.SwapEMAWeights(
            swap_on_epoch=True
        ), Logs),
    ),
    "TerminateOnNaN": case(run=fit_with(keras.callbacks.TerminateOnNaN, Logs)),
}
