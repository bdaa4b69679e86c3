r"""Trains a network that is split into modules.

    python -m trainers.train --flagfile=configs/digits_fr.cfg \
        --workdir=runs/digits

The experiments are in configs/. Later flags override earlier ones:

    the network     --model --model_args --depth --dropout --dtype_policy
    its modules     --algorithm --num_modules --replicas --link_dtype --devices
                    --balance --steps_per_execution
    algorithms      --weight_prediction --gradient_shrink (features_replay,
                    ddg) --replay_microbatches (features_replay)
                    --num_microbatches --recompute (gpipe, pipeline)
                    --schedule (pipeline)
                    --synthesizer_width --synthesizer_learning_rate (dni)
    the data        --dataset --data_dir --mean --std --crop_padding --flip
                    (images) --tokenizer --sequence_length (texts)
    the training    --batch_size --drop_remainder --epochs --seed --optimizer
                    --momentum --nesterov --weight_decay --learning_rate
                    --learning_rate_schedule --learning_rate_drops
                    --learning_rate_factor --warmup_epochs --label_smoothing
                    --global_clipnorm --finish_with --deterministic
                    --restore_weights_from
    what is seen    --diagnostics_every --exact_gradient --histograms --graph
                    --profile_steps --prompt --sample_tokens --temperature
    what it         --checkpoint_steps --checkpoint_minutes
    survives        --checkpoint_epochs --keep_checkpoints --on_nan
    other machines  --workers --cluster --worker_port --kubernetes_selector
                    --coordinator --wait_for_workers --worker_patience
                    --recoveries

If a run is interrupted, by Ctrl-C, SIGTERM or anything else, repeat the command
to resume it from its newest checkpoint (docs/reliability.md); with more
--epochs, a finished run is resumed, too. The working directory gets:

    modules.png          a picture of the modules
    flags.cfg            the experiment; --flagfile=WORKDIR/flags.cfg repeats it
    train/ validation/   TensorBoard event files; others in diagnostics/
    checkpoints/         the newest ones, and that of the best epoch in best/
    model.keras          the trained network, one plain Keras model
    history.csv          loss, accuracy and speed of every epoch
    results.json         accuracy, losses, time and memory
    sample.txt           (of a language model) a text it wrote
    finish/              (--finish_with) the same for the last epochs
"""

import contextlib
import functools
import glob
import json
import logging
import os

import keras
import tensorflow as tf
from absl import flags

import fr_keras
from trainers.command import (
    errors,
    live_line,
    peak_memory,
    signals,
    workdir,
)
from trainers.experiment import (
    building,
    experiment_flags,
    finishing,
    flag_file,
    loading,
    reliability,
    sampling,
)
from trainers.results import observation, outcome, tensorboard
from trainers.results.event_files import RunFiles
from trainers.results.history import History
from trainers.results.progress import Progress
from trainers.workers import connecting

FLAGS = flags.FLAGS

# In the working directory of runs balanced by measured costs.
COSTS = "costs.json"

flags.DEFINE_string(
    "workdir", None,
    "Directory for the results; must be new, empty or that of the same run, "
    "which is then resumed. Required.",
    required=True,
)
flags.adopt_module_key_flags(experiment_flags)
flags.adopt_module_key_flags(observation)
flags.adopt_module_key_flags(reliability)
flags.adopt_module_key_flags(sampling)
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
        with connecting.connected(has_begun=resumes), live_line.shown():
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
    live_line.show(f"loading {FLAGS.dataset}")
    data = loading.load_data(fr_keras.cluster.host(building.first_device()))
    flag_file.settle(data)
    if resumes:
        extends = flag_file.check(in_workdir(workdir.FLAG_FILE))
        if extends:
            # It is not finished any more.
            with contextlib.suppress(FileNotFoundError):
                os.remove(outcome.path())
            flag_file.write(in_workdir(workdir.FLAG_FILE))
        if os.path.exists(outcome.path()):
            outcome.tell()
            return
    examples = building.examples_per_epoch(data.num_train)
    steps_per_epoch = -(-examples // FLAGS.batch_size)
    sampling.check(data)
    live_line.show(f"building {FLAGS.model}")
    network = building.build_network(data)
    costs = costs_of_layers(network)
    model = building.build_algorithm(network, steps_per_epoch, costs, data)
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
    peak_memory.reset([module.device for module in model.all_modules])
    history = History(in_workdir("history.csv"))
    files = RunFiles(in_workdir("diagnostics"), model.num_modules)
    kept = reliability.checkpoints(FLAGS.workdir, logs=files.directories)
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
                        FLAGS.workdir, files, model, data, examples
                    ),
                    finishing.Drain(),
                    history,
                    keras.callbacks.LambdaCallback(
                        on_train_begin=lambda logs: tell_checkpoint(kept),
                    ),
                    Progress(
                        finishing.first_epochs(), steps_per_epoch, examples
                    ),
                    outcome.StopWhenDiverged(),
                    last,
                    kept,
                ],
            )
    except fr_keras.NonFiniteError as error:
        cause = str(error)
        history.add_failure(outcome.METRICS)
    except fr_keras.CheckpointError as error:
        raise errors.UsageError(str(error)) from error

    if cause is None and not outcome.has_diverged(history.rows[-1]):
        live_line.show("writing the results")
        trained = model.to_keras()
        with whole_file("model.keras") as path:
            trained.save(path)
        outcome.write_sample(sampling.sample(trained, data))
    # Last, since it marks the run as finished.
    outcome.write(history, examples, model, network)
    outcome.tell(cause)


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


def tell_checkpoint(kept):
    """Prints the checkpoint that a run resumes from."""
    if kept.restored:
        print(f"Resuming from {kept.restored}", flush=True)


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
        "replicas": model.replicas,
        **{
            name: FLAGS[name].value for name in (
                "dataset", "model", "depth", "batch_size", "epochs",
                "optimizer", "learning_rate", "steps_per_execution", "seed",
            )
        },
    }, os.path.abspath(FLAGS.workdir))
    tensorboard.write_image(
        writer, "modules", in_workdir("modules.png")
    )
    writer.close()


if __name__ == "__main__":
    errors.run(main)
