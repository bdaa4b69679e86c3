r"""Evaluates a trained network on its test set.

    python -m trainers.evaluate --workdir=runs/digits

The experiment is read from the working directory. Flags of trainers.train
override it, in particular those below.
"""

import os
import sys

import keras
from absl import flags

from trainers.command import errors
from trainers.data.input_pipeline import ImageData
from trainers.experiment import building, loading, networks

FLAGS = flags.FLAGS

flags.DEFINE_string(
    "workdir", None, "Working directory of a finished run. Required.",
    required=True,
)
for name in ("batch_size", "data_dir", "devices", "num_modules"):
    flags.declare_key_flag(name)


def main():
    workdir = os.path.expanduser(FLAGS.workdir)
    flag_file = os.path.join(workdir, "flags.cfg")
    model_file = os.path.join(workdir, "model.keras")
    for file in (flag_file, model_file):
        if not os.path.isfile(file):
            raise errors.UsageError(
                f"--workdir must contain a finished run. Received: {workdir}, "
                f"which has no {os.path.basename(file)}"
            )
    read_flags(flag_file)
    building.start()
    data = loading.load_data()
    if isinstance(data, ImageData):
        check_flags(flag_file, "mean", "std")
    network = load_network(model_file, data)
    model = building.build_algorithm(
        network, 1, building.measure_costs(network), data
    )
    logs = model.evaluate(
        data.test_batches(FLAGS.batch_size), verbose=0, return_dict=True
    )
    perplexity = (
        f", perplexity {logs['perplexity']:.2f}" if "perplexity" in logs else ""
    )
    print(
        f"Test accuracy {logs['accuracy']:.2%}, loss {logs['loss']:.4f}"
        f"{perplexity} on {data.num_test} examples of {FLAGS.dataset}"
    )


def read_flags(flag_file):
    """Reads the flags of a run; the command line overrides them."""
    try:
        errors.parse_flags(
            [sys.argv[0], f"--flagfile={flag_file}", *sys.argv[1:]]
        )
    except errors.UsageError as error:
        raise errors.UsageError(f"{flag_file}: {error}") from error
    check_flags(flag_file, "dataset")


def check_flags(flag_file, *names):
    """Refuses defaults, which would evaluate a different experiment."""
    for name in names:
        if FLAGS[name].using_default_value:
            raise errors.UsageError(
                f"{flag_file} must be unchanged since the run wrote it. "
                f"Received: a file without --{name}"
            )


def load_network(model_file, data):
    """Loads a trained network and checks that it fits the data."""
    networks.import_layers()
    try:
        network = keras.models.load_model(model_file, compile=False)
    # A damaged file may fail anywhere in Keras, h5py or zipfile.
    except Exception as error:
        raise errors.UsageError(
            f"{model_file} cannot be loaded: {error}"
        ) from error
    data.suit(networks.inputs(network))
    networks.check(model_file, network, data)
    return network


if __name__ == "__main__":
    errors.run(main)
