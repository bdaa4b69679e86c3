r"""Trains a network that is split into modules.

    python -m trainers.train --flagfile=configs/digits_fr.cfg \
        --workdir=runs/digits

The experiments are in configs/. Later flags override earlier ones:

    the network     --model --model_args --depth --dropout --dtype_policy
    its modules     --algorithm --num_modules --devices --balance
                    --steps_per_execution
    algorithms      --weight_prediction --gradient_shrink (features_replay,
                    ddg)
                    --num_microbatches --recompute (gpipe)
                    --synthesizer_width --synthesizer_learning_rate (dni)
    the data        --dataset --data_dir --mean --std --crop_padding --flip
    the training    --batch_size --drop_remainder --epochs --seed --optimizer
                    --momentum --nesterov --weight_decay --learning_rate
                    --learning_rate_drops --learning_rate_factor
                    --warmup_epochs --global_clipnorm --finish_with
                    --deterministic --restore_weights_from
    what is seen    --diagnostics_every --exact_gradient --histograms --graph
                    --profile_steps
    what it         --checkpoint_steps --checkpoint_minutes
    survives        --checkpoint_epochs --keep_checkpoints --on_nan
    other machines  --workers --cluster --worker_port --kubernetes_selector
                    --coordinator --wait_for_workers --worker_patience
                    --recoveries

If a run is interrupted, by Ctrl-C, SIGTERM or anything else, repeat the command
to resume it from its newest checkpoint (docs/reliability.md). The working
directory gets:

    modules.png          a picture of the modules
    flags.cfg            the experiment; --flagfile=WORKDIR/flags.cfg repeats it
    train/ validation/   TensorBoard event files; others in diagnostics/
    checkpoints/         the newest ones, and that of the best epoch in best/
    model.keras          the trained network, one plain Keras model
    history.csv          loss, accuracy and speed of every epoch
    results.json         accuracy, losses, time and memory
    finish/              (--finish_with) the same for the last epochs
"""

import functools
import glob
import json
import logging
import math
import os
import shutil
import sys

import keras
import numpy as np
import tensorflow as tf
from absl import flags

import fr_keras
from fr_keras.versions import versions
from trainers.command import errors, peak_memory, signals, workdir
from trainers.experiment import (
    building,
    experiment_flags,
    finishing,
    flag_file,
    reliability,
)
from trainers.results import observation, tensorboard
from trainers.results.history import History
from trainers.workers import connecting

FLAGS = flags.FLAGS

# In the working directory of runs balanced by measured costs.
COSTS = "costs.json"

METRICS = ("accuracy", "loss", "val_accuracy", "val_loss")

flags.DEFINE_string(
    "workdir", None,
    "Directory for the results; must be new, empty or that of the same run, "
    "which is then resumed. Required.",
    required=True,
)
flags.adopt_module_key_flags(experiment_flags)
flags.adopt_module_key_flags(observation)
flags.adopt_module_key_flags(reliability)
flags.adopt_module_key_flags(connecting)
flags.register_multi_flags_validator(
    ["on_lost_worker", "devices"],
    lambda values: not (
        values["on_lost_worker"] == "shrink" and values["devices"]
    ),
    "--on_lost_worker=shrink chooses the devices itself and cannot be combined "
    "with --devices",
)


def main():
    FLAGS.workdir = os.path.expanduser(FLAGS.workdir)
    flag_file.settle_paths()
    finishing.first_epochs()
    with workdir.taken(FLAGS.workdir) as resumes:
        if resumes:
            # Flags that depend on the data are checked later.
            flag_file.check(
                in_workdir(workdir.FLAG_FILE), unknown=("mean", "std")
            )
        building.start(elsewhere=connecting.is_wanted())
        with connecting.connected(has_begun=resumes):
            run(resumes)
            if FLAGS.finish_with:
                with (
                    finishing.flags_of_last_epochs(),
                    workdir.taken(FLAGS.workdir) as resumes,
                ):
                    keras.backend.clear_session()
                    run(resumes)


def run(resumes):
    """Trains, or resumes a run."""
    data = building.load_data(fr_keras.cluster.host(building.first_device()))
    flag_file.settle(data)
    if resumes:
        flag_file.check(in_workdir(workdir.FLAG_FILE))
        if os.path.exists(in_workdir("results.json")):
            tell_result()
            return
    examples = building.examples_per_epoch(data.num_train)
    steps_per_epoch = -(-examples // FLAGS.batch_size)
    network = building.build_network(data)
    costs = costs_of_layers(network)
    model = building.build_algorithm(network, steps_per_epoch, costs)
    # After the network, because building it seeds TensorFlow.
    train_batches = data.train_batches(
        FLAGS.batch_size, FLAGS.seed, FLAGS.drop_remainder
    )
    test_batches = data.test_batches(FLAGS.batch_size)
    if FLAGS.restore_weights_from and not reliability.has_begun(FLAGS.workdir):
        reliability.restore_weights(model, FLAGS.restore_weights_from)
    if not resumes:
        flag_file.write(in_workdir(workdir.FLAG_FILE))
    if costs is not None and not os.path.exists(in_workdir(COSTS)):
        with whole_file(COSTS) as path, open(path, "w") as file:
            json.dump(costs, file)
    describe(network, model)
    if not glob.glob(in_workdir("events.out.tfevents.*")):
        write_summary(model)
    peak_memory.reset(model.devices)
    history = History(in_workdir("history.csv"))
    kept = reliability.checkpoints(
        FLAGS.workdir, logs=[in_workdir(name) for name in observation.LOGS]
    )
    stop = signals.Signals()
    first, last = reliability.callbacks(stop, kept)
    cause = None
    try:
        with stop.noted():
            model.fit(
                train_batches,
                validation_data=test_batches,
                epochs=finishing.first_epochs(),
                shuffle=False,  # The dataset shuffles.
                verbose=0,
                callbacks=[
                    first,
                    *observation.callbacks(
                        FLAGS.workdir, model, data, examples
                    ),
                    finishing.Drain(),
                    history,
                    keras.callbacks.LambdaCallback(
                        on_train_begin=lambda logs: tell_checkpoint(kept),
                        on_epoch_end=print_epoch,
                    ),
                    StopWhenDiverged(),
                    last,
                    kept,
                ],
            )
    except fr_keras.NonFiniteError as error:
        cause = str(error)
        history.add_failure(METRICS)
    except fr_keras.CheckpointError as error:
        raise errors.UsageError(str(error)) from error

    if cause is None and not has_diverged(history.rows[-1]):
        with whole_file("model.keras") as path:
            model.to_keras().save(path)
    # Last, since it marks the run as finished.
    write_results(history, examples, model, network)
    tell_result(cause)


def costs_of_layers(network):
    """Costs of the layers, for `--balance=measured`.

    A resumed run reads them from its working directory, because new
    measurements would differ and change its modules.
    """
    path = in_workdir(COSTS)
    if not os.path.exists(path):
        return building.measure_costs(network)
    try:
        with open(path) as file:
            return json.load(file)
    except (OSError, ValueError) as error:
        raise errors.UsageError(f"{path} is damaged: {error}") from error


def tell_result(cause=None):
    """Reports the outcome of a finished run.

    Args:
        cause: str, why training diverged, or `None` if unknown.

    Raises:
        Diverged: if training diverged.
    """
    path = in_workdir("results.json")
    try:
        with open(path) as file:
            results = json.load(file)
        epochs, seconds = results["epochs"], results["seconds"]
        accuracy, loss = results["test_accuracy"], results["test_loss"]
        best = results["best_test_accuracy"]
    except (OSError, ValueError, KeyError) as error:
        raise errors.UsageError(f"{path} is damaged: {error!r}") from error
    if loss is None or results["train_loss"] is None:
        cause = cause or "the loss or the test loss is not finite"
        raise errors.Diverged(
            f"Training diverged in epoch {epochs}: {cause}; a smaller "
            f"--learning_rate may help. Its logs are in {FLAGS.workdir}"
        )
    print(
        f"View the logs with: {tensorboard_command()} --logdir {FLAGS.workdir}"
    )
    print(
        f"Test accuracy {accuracy:.2%} after {epochs} epochs in "
        f"{seconds:.0f} s (best: {best:.2%}); results in {FLAGS.workdir}"
    )


def tell_checkpoint(kept):
    """Prints the checkpoint that a run resumes from."""
    if kept.restored:
        print(f"Resuming from {kept.restored}", flush=True)


def tensorboard_command():
    """The command that starts TensorBoard from the user's shell."""
    if shutil.which("tensorboard"):
        return "tensorboard"
    # The environment is not active, as after `make train`.
    return os.path.relpath(
        os.path.join(os.path.dirname(sys.executable), "tensorboard")
    )


def in_workdir(name):
    """The path of a file in the working directory."""
    return os.path.join(FLAGS.workdir, name)


def whole_file(name):
    """As `workdir.whole_file`, for a file in the working directory."""
    return workdir.whole_file(in_workdir(name))


def describe(network, model):
    """Prints a summary of the model, and draws it in `modules.png`."""
    print(f"{FLAGS.algorithm} on {FLAGS.dataset}: {network.name}", flush=True)
    model.summary(print_fn=functools.partial(print, flush=True))
    # Its warnings are about font caches.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    with whole_file("modules.png") as path:
        fr_keras.plot_modules(model, path)


def write_summary(model):
    """Writes hyperparameters and the picture of modules for TensorBoard."""
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
        writer, "modules", in_workdir("modules.png")
    )
    writer.close()


def write_results(history, examples, model, network):
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
        "peak_memory_bytes": peak_memory.read(model.devices),
        "algorithm": FLAGS.algorithm,
        "dataset": FLAGS.dataset,
        "num_modules": model.num_modules,
        "devices": list(model.devices),
        "parameters": network.count_params(),
        "seed": FLAGS.seed,
        "versions": versions(),
    }
    results = {
        # JSON cannot represent non-finite numbers.
        name: None
        if isinstance(value, float) and not math.isfinite(value)
        else value
        for name, value in results.items()
    }
    with whole_file("results.json") as path, open(path, "w") as file:
        json.dump(results, file, indent=2, allow_nan=False)


def print_epoch(epoch, logs):
    """Prints a line for about twenty epochs of a run, including the last."""
    number = finishing.first_epochs()
    if (epoch + 1) % max(1, number // 20) and epoch + 1 != number:
        return
    print(
        f"epoch {epoch + 1:3d}/{number}: loss {logs['loss']:.4f}, "
        f"accuracy {logs['accuracy']:.2%}, test loss {logs['val_loss']:.4f}, "
        f"test accuracy {logs['val_accuracy']:.2%}, "
        f"{logs['examples_per_second']:,.0f} examples/s",
        flush=True,
    )


def has_diverged(logs):
    """Whether a loss of an epoch is not finite."""
    return not all(math.isfinite(logs[name]) for name in ("loss", "val_loss"))


class StopWhenDiverged(keras.callbacks.Callback):
    """Stops training after an epoch whose loss is not finite."""

    def on_epoch_end(self, epoch, logs=None):
        if has_diverged(logs):
            self.model.stop_training = True


if __name__ == "__main__":
    errors.run(main)
