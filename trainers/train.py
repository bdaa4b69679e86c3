r"""Trains a network that is cut into modules.

    python -m trainers.train --flagfile=configs/digits_fr.cfg \
        --workdir=runs/digits

configs/ holds the experiments. Flags that come later override earlier ones:

    the network     --model --depth
    its modules     --algorithm --num_modules --devices --balance
                    --steps_per_execution
    algorithms      --gradient_shrink (features_replay, ddg)
                    --num_microbatches --recompute (gpipe)
                    --synthesizer_width --synthesizer_learning_rate (dni)
    the data        --dataset --data_dir --mean --std --crop_padding --flip
    the training    --batch_size --drop_remainder --epochs --seed --momentum
                    --nesterov --weight_decay --learning_rate
                    --learning_rate_drops --learning_rate_factor
    what is seen    --diagnostics_every --exact_gradient --histograms --graph
                    --profile_steps

A run leaves in its working directory:

    modules.png          a picture of the modules
    flags.cfg            the experiment; --flagfile=WORKDIR/flags.cfg repeats it
    train/ validation/   TensorBoard event files; others in diagnostics/
    model.keras          the trained network, one plain Keras model
    history.csv          loss, accuracy and speed of every epoch
    results.json         accuracy, losses, time and memory
"""

import contextlib
import functools
import json
import logging
import math
import os
import shutil
import sys
import time

import keras
import numpy as np
import tensorflow as tf
from absl import flags

import fr_keras
from trainers import (
    errors,
    experiment,
    input_pipeline,
    observation,
    tensorboard,
    workdir,
)

FLAGS = flags.FLAGS

flags.DEFINE_string(
    "workdir", None,
    "Directory for the results; must be new or empty. Required.",
    required=True,
)
flags.adopt_module_key_flags(experiment)
flags.adopt_module_key_flags(observation)


def main():
    FLAGS.workdir = workdir.make(FLAGS.workdir)
    experiment.start()
    data = input_pipeline.load(
        FLAGS.dataset, FLAGS.data_dir, FLAGS.mean, FLAGS.std
    )
    examples = experiment.examples_per_epoch(data.num_train)
    steps_per_epoch = -(-examples // FLAGS.batch_size)
    network = experiment.build_network(data.image_shape, data.num_classes)
    model = experiment.build_algorithm(network, steps_per_epoch)
    # After the network is built, which seeds TensorFlow.
    train_batches = input_pipeline.train_batches(
        data, FLAGS.batch_size, FLAGS.seed, FLAGS.crop_padding, FLAGS.flip,
        FLAGS.drop_remainder,
    )
    test_batches = input_pipeline.test_batches(data, FLAGS.batch_size)
    write_flags(data)
    describe(network, model)
    write_summary(model)

    reset_peak_memory(model.devices)
    start = time.monotonic()
    history = model.fit(
        train_batches,
        validation_data=test_batches,
        epochs=FLAGS.epochs,
        shuffle=False,  # The dataset does it.
        verbose=0,
        callbacks=[
            *observation.callbacks(FLAGS.workdir, model, data, examples),
            keras.callbacks.LambdaCallback(on_epoch_end=print_epoch),
            StopWhenDiverged(),
        ],
    ).history
    seconds = time.monotonic() - start

    results = write_results(history, seconds, examples, model, network)
    loss, test_loss = history["loss"][-1], history["val_loss"][-1]
    if has_diverged(loss, test_loss):
        raise errors.Diverged(
            f"Training diverged in epoch {results['epochs']}: loss {loss:.4g}, "
            f"test loss {test_loss:.4g}; a smaller --learning_rate may help. "
            f"How it went is in {FLAGS.workdir}"
        )
    with whole_file("model.keras") as path:
        model.to_keras().save(path)
    print(f"Look at it with: {tensorboard_command()} --logdir {FLAGS.workdir}")
    print(
        f"Test accuracy {results['test_accuracy']:.2%} after "
        f"{results['epochs']} epochs in {seconds:.0f} s; results in "
        f"{FLAGS.workdir}"
    )


def tensorboard_command():
    """The command that starts TensorBoard from the shell of the user."""
    if shutil.which("tensorboard"):
        return "tensorboard"
    # Of an environment that is not active, as after `make train`.
    return os.path.relpath(
        os.path.join(os.path.dirname(sys.executable), "tensorboard")
    )


def whole_file(name):
    """As `workdir.whole_file`, of a file in the working directory."""
    return workdir.whole_file(os.path.join(FLAGS.workdir, name))


def write_flags(data):
    """Writes the experiment as a flag file, measured normalization included."""
    FLAGS.mean = [repr(float(value)) for value in data.mean]
    FLAGS.std = [repr(float(value)) for value in data.std]
    if FLAGS.data_dir:
        # The run can then be evaluated from another directory.
        FLAGS.data_dir = os.path.abspath(os.path.expanduser(FLAGS.data_dir))
    lines = [
        FLAGS[name].serialize()
        for name in experiment.EXPERIMENT_FLAGS
        if FLAGS[name].value not in (None, [], "")
    ]
    path = os.path.join(FLAGS.workdir, "flags.cfg")
    try:
        # Of two runs that found the directory empty, one is the first.
        with open(path, "x") as file:
            file.write("\n".join(lines) + "\n")
    except OSError as error:
        raise errors.UsageError(f"{path} cannot be written: {error}") from error


def describe(network, model):
    """Prints what is trained, and draws it in `modules.png`."""
    print(f"{FLAGS.algorithm} on {FLAGS.dataset}: {network.name}", flush=True)
    model.summary(print_fn=functools.partial(print, flush=True))
    # Its warnings are about caches of fonts.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    with whole_file("modules.png") as path:
        fr_keras.plot_modules(model, path)


def write_summary(model):
    """Writes for TensorBoard what the run is."""
    writer = tf.summary.create_file_writer(FLAGS.workdir)
    tensorboard.write_hparams(writer, {
        "algorithm": FLAGS.algorithm,
        "K": model.num_modules,
        **{
            name: FLAGS[name].value for name in (
                "dataset", "model", "depth", "batch_size", "learning_rate",
                "steps_per_execution", "seed",
            )
        },
    })
    tensorboard.write_image(
        writer, "modules", os.path.join(FLAGS.workdir, "modules.png")
    )
    writer.close()


def write_results(history, seconds, examples, model, network):
    """Writes `results.json`.

    Args:
        history: dict from the name of a log to its values in all epochs.
        seconds: float, the time that training took.
        examples: int, trained on in an epoch.
        model: the trained algorithm.
        network: `keras.Model`, uncut.

    Returns:
        dict, what was written. Numbers that are not finite, for which JSON
        has no word, are `None`.
    """
    speed = float(np.median(history["examples_per_second"]))
    results = {
        "test_accuracy": history["val_accuracy"][-1],
        "test_loss": history["val_loss"][-1],
        "train_accuracy": history["accuracy"][-1],
        "train_loss": history["loss"][-1],
        "best_test_accuracy": max(history["val_accuracy"]),
        "epochs": len(history["loss"]),
        "seconds": round(seconds, 2),
        "examples_per_second": speed,
        # Without validation; the median, so without tracing.
        "seconds_per_epoch": examples / speed,
        "peak_memory_bytes": peak_memory(model.devices),
        "algorithm": FLAGS.algorithm,
        "dataset": FLAGS.dataset,
        "num_modules": model.num_modules,
        "devices": list(model.devices),
        "parameters": network.count_params(),
        "seed": FLAGS.seed,
        "versions": {
            "fr_keras": fr_keras.__version__,
            "keras": keras.__version__,
            "tensorflow": tf.__version__,
        },
    }
    results = {
        name: None
        if isinstance(value, float) and not math.isfinite(value)
        else value
        for name, value in results.items()
    }
    with whole_file("results.json") as path, open(path, "w") as file:
        json.dump(results, file, indent=2, allow_nan=False)
    return results


def counted_memory(devices):
    """The devices whose allocators count for the given ones."""
    # Those of all logical CPU devices count together.
    return sorted({
        "CPU:0" if ":CPU:" in device else device for device in devices
    })


def reset_peak_memory(devices):
    with contextlib.suppress(ValueError):  # Not every allocator counts.
        for device in counted_memory(devices):
            tf.config.experimental.reset_memory_stats(device)


def peak_memory(devices):
    """Bytes that the devices had allocated at most, all together, or `None`."""
    try:
        return sum(
            tf.config.experimental.get_memory_info(device)["peak"]
            for device in counted_memory(devices)
        )
    except ValueError:
        return None


def print_epoch(epoch, logs):
    """Prints a line for about twenty epochs of a run, the last included."""
    if (epoch + 1) % max(1, FLAGS.epochs // 20) and epoch + 1 != FLAGS.epochs:
        return
    print(
        f"epoch {epoch + 1:3d}/{FLAGS.epochs}: loss {logs['loss']:.4f}, "
        f"accuracy {logs['accuracy']:.2%}, test loss {logs['val_loss']:.4f}, "
        f"test accuracy {logs['val_accuracy']:.2%}, "
        f"{logs['examples_per_second']:,.0f} images/s",
        flush=True,
    )


def has_diverged(*losses):
    return not all(math.isfinite(loss) for loss in losses)


class StopWhenDiverged(keras.callbacks.Callback):
    """Ends training after an epoch whose loss is no longer a number."""

    # (Keras' TerminateOnNaN would wait for the numbers of every call.)
    def on_epoch_end(self, epoch, logs=None):
        if has_diverged(logs["loss"], logs["val_loss"]):
            self.model.stop_training = True


if __name__ == "__main__":
    errors.run(main)
