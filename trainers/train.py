r"""Trains a network that is cut into modules.

    python -m trainers.train --flagfile=configs/digits_fr.cfg \
        --workdir=runs/digits

A run leaves in its working directory:

    flags.cfg       the experiment; --flagfile=flags.cfg repeats it
    train/ validation/   TensorBoard event files
    model.keras     the trained network, one plain Keras model
    results.json    accuracy, losses and time
"""

import json
import os
import time

import keras
import numpy as np
import tensorflow as tf
from absl import flags

import fr_keras
from trainers import errors, experiment, input_pipeline

FLAGS = flags.FLAGS

flags.DEFINE_string(
    "workdir", None, "Directory for the results; must be new or empty.",
    required=True,
)
flags.adopt_module_key_flags(experiment)


def main():
    make_workdir(FLAGS.workdir)
    experiment.start()
    data = input_pipeline.load(
        FLAGS.dataset, FLAGS.data_dir, FLAGS.mean, FLAGS.std
    )
    steps_per_epoch = -(-data.num_train // FLAGS.batch_size)
    network = experiment.build_network(data.image_shape, data.num_classes)
    model = experiment.build_algorithm(network, steps_per_epoch)
    write_flags(data)
    print(
        f"{FLAGS.algorithm} on {FLAGS.dataset}: {network.name}, "
        f"{network.count_params():,} parameters, in {model.num_modules} "
        f"modules on {', '.join(map(short_name, model.devices))}",
        flush=True,
    )

    start = time.monotonic()
    history = model.fit(
        input_pipeline.train_batches(
            data, FLAGS.batch_size, FLAGS.seed, FLAGS.crop_padding, FLAGS.flip
        ),
        validation_data=input_pipeline.test_batches(data, FLAGS.batch_size),
        epochs=FLAGS.epochs,
        shuffle=False,  # The dataset does it.
        verbose=0,
        callbacks=[
            fr_keras.diagnostics.GradientNorm(),
            fr_keras.diagnostics.Throughput(data.num_train),
            keras.callbacks.TensorBoard(FLAGS.workdir, write_graph=False),
            keras.callbacks.LambdaCallback(on_epoch_end=print_epoch),
        ],
    ).history
    seconds = time.monotonic() - start

    model.to_keras().save(os.path.join(FLAGS.workdir, "model.keras"))
    results = {
        "test_accuracy": history["val_accuracy"][-1],
        "test_loss": history["val_loss"][-1],
        "train_accuracy": history["accuracy"][-1],
        "train_loss": history["loss"][-1],
        "best_test_accuracy": max(history["val_accuracy"]),
        "epochs": len(history["loss"]),
        "seconds": round(seconds, 2),
        "examples_per_second": float(
            np.median(history["examples_per_second"])
        ),
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
    with open(os.path.join(FLAGS.workdir, "results.json"), "w") as file:
        json.dump(results, file, indent=2)
    print(f"Look at it with: tensorboard --logdir {FLAGS.workdir}")
    print(
        f"Test accuracy {results['test_accuracy']:.2%} after "
        f"{results['epochs']} epochs in {seconds:.0f} s; results in "
        f"{FLAGS.workdir}"
    )


def make_workdir(workdir):
    """Makes the working directory, which must not hold anything yet."""
    try:
        os.makedirs(workdir, exist_ok=True)
        if os.listdir(workdir):
            raise errors.UsageError(
                "--workdir must be new or empty, so that no other run is "
                f"overwritten. Received: {workdir}"
            )
        probe = os.path.join(workdir, "flags.cfg")
        open(probe, "w").close()
        os.remove(probe)
    except OSError as error:
        raise errors.UsageError(
            f"--workdir cannot be written to: {error}"
        ) from error


def write_flags(data):
    """Writes the experiment as a flag file, measured normalization included."""
    FLAGS.mean = [repr(float(value)) for value in data.mean]
    FLAGS.std = [repr(float(value)) for value in data.std]
    lines = [
        FLAGS[name].serialize()
        for name in experiment.EXPERIMENT_FLAGS
        if FLAGS[name].value not in (None, [])
    ]
    with open(os.path.join(FLAGS.workdir, "flags.cfg"), "w") as file:
        file.write("\n".join(lines) + "\n")


def short_name(device):
    """`CPU:1` instead of `/job:localhost/replica:0/task:0/device:CPU:1`."""
    return device.removeprefix("/job:localhost/replica:0/task:0/device:")


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


if __name__ == "__main__":
    errors.run(main)
