"""The outcome of a run: written to its working directory, and reported."""

import json
import math
import os
import shutil
import sys

import keras
import numpy as np
from absl import flags

from fr_keras.versions import versions
from trainers.command import errors, peak_memory, workdir

FLAGS = flags.FLAGS

# Logs that every epoch has.
METRICS = ("accuracy", "loss", "val_accuracy", "val_loss")


def path(name="results.json"):
    """The path of a file in the working directory."""
    return os.path.join(FLAGS.workdir, name)


def write(history, examples, model, network):
    """Writes `results.json`.

    Args:
        history: `History` of the run.
        examples: int, training examples per epoch.
        model: the trained algorithm.
        network: `keras.Model`, before the split.
    """
    logs = {
        name: [row.get(name, math.nan) for row in history.rows]
        for name in (*METRICS, "examples_per_second")
    }
    speeds = [speed for speed in logs["examples_per_second"] if speed > 0]
    speed = float(np.median(speeds)) if speeds else math.nan
    devices = [module.device for module in model.all_modules]
    results = {
        "test_accuracy": logs["val_accuracy"][-1],
        "test_loss": logs["val_loss"][-1],
        "train_accuracy": logs["accuracy"][-1],
        "train_loss": logs["loss"][-1],
        "best_test_accuracy": max(logs["val_accuracy"]),
        "epochs": len(history.rows),
        "seconds": round(history.seconds, 2),
        "examples_per_second": speed,
        # Without validation and, thanks to the median, without tracing.
        "seconds_per_epoch": examples / speed,
        "peak_memory_bytes": peak_memory.read(devices),
        "algorithm": FLAGS.algorithm,
        "dataset": FLAGS.dataset,
        "num_modules": model.num_modules,
        "replicas": model.replicas,
        "devices": devices,
        "parameters": network.count_params(),
        "seed": FLAGS.seed,
        "versions": versions(),
    }
    if "val_perplexity" in history.rows[-1]:
        results["test_perplexity"] = history.rows[-1]["val_perplexity"]
    results = {
        # JSON cannot represent non-finite numbers.
        name: None
        if isinstance(value, float) and not math.isfinite(value)
        else value
        for name, value in results.items()
    }
    with workdir.whole_file(path()) as part, open(part, "w") as file:
        json.dump(results, file, indent=2, allow_nan=False)


def write_sample(text):
    """Prints a text by a language model, and writes `sample.txt`.

    Args:
        text: str, or `None` if the network is no language model.
    """
    if text is None:
        return
    print(f"A sample:\n\n{text}\n", flush=True)
    with workdir.whole_file(path("sample.txt")) as part, open(
        part, "w", encoding="utf-8"
    ) as file:
        file.write(text)


def tell(cause=None):
    """Reports the outcome of a finished run.

    Args:
        cause: str, why training diverged, or `None` if unknown.

    Raises:
        Diverged: if training diverged.
    """
    try:
        with open(path()) as file:
            results = json.load(file)
        epochs, seconds = results["epochs"], results["seconds"]
        accuracy, loss = results["test_accuracy"], results["test_loss"]
        best = results["best_test_accuracy"]
    except (OSError, ValueError, KeyError) as error:
        raise errors.UsageError(f"{path()} is damaged: {error!r}") from error
    if loss is None or results["train_loss"] is None:
        cause = cause or "the loss or the test loss is not finite"
        raise errors.Diverged(
            f"Training diverged in epoch {epochs}: {cause}; a smaller "
            f"--learning_rate may help. Its logs are in {FLAGS.workdir}"
        )
    # HParams finds the metrics of runs below its directory only.
    above = os.path.dirname(FLAGS.workdir.rstrip("/")) or "."
    print(f"View the logs with: {tensorboard_command()} --logdir {above}")
    perplexity = results.get("test_perplexity")
    of_text = f", perplexity {perplexity:.2f}" if perplexity else ""
    print(
        f"Test accuracy {accuracy:.2%}{of_text} after {epochs} epochs in "
        f"{seconds:.0f} s (best: {best:.2%}); results in {FLAGS.workdir}"
    )


def tensorboard_command():
    """The command that starts TensorBoard from the user's shell."""
    if shutil.which("tensorboard"):
        return "tensorboard"
    # The environment is not active, as after `make train`.
    return os.path.relpath(
        os.path.join(os.path.dirname(sys.executable), "tensorboard")
    )


def has_diverged(logs):
    """Whether a loss of an epoch is not finite."""
    return not all(math.isfinite(logs[name]) for name in ("loss", "val_loss"))


class StopWhenDiverged(keras.callbacks.Callback):
    """Stops training after an epoch whose loss is not finite."""

    def on_epoch_end(self, epoch, logs=None):
        if has_diverged(logs):
            self.model.stop_training = True
