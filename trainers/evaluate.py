r"""Evaluates a trained network on its test set.

    python -m trainers.evaluate --workdir=runs/digits

The experiment's flags are read from the working directory; flags given on the
command line override them, for example --data_dir.
"""

import os
import sys

import keras
from absl import flags

from trainers import errors, experiment, input_pipeline

FLAGS = flags.FLAGS

flags.DEFINE_string(
    "workdir", None, "Working directory of a finished run.", required=True
)
flags.adopt_module_key_flags(experiment)


def main():
    flag_file = os.path.join(FLAGS.workdir, "flags.cfg")
    model_file = os.path.join(FLAGS.workdir, "model.keras")
    for file in (flag_file, model_file):
        if not os.path.isfile(file):
            raise errors.UsageError(
                f"--workdir must hold a finished run. Received: {FLAGS.workdir}"
                f", without {os.path.basename(file)}"
            )
    # The command line comes last, so it overrides what the run was.
    FLAGS([sys.argv[0], f"--flagfile={flag_file}", *sys.argv[1:]])
    experiment.start()
    data = input_pipeline.load(
        FLAGS.dataset, FLAGS.data_dir, FLAGS.mean, FLAGS.std
    )
    try:
        network = keras.models.load_model(model_file, compile=False)
    except (OSError, TypeError, ValueError) as error:
        raise errors.UsageError(
            f"{model_file} cannot be loaded: {error}"
        ) from error
    model = experiment.build_algorithm(network, steps_per_epoch=1)
    loss, accuracy = model.evaluate(
        input_pipeline.test_batches(data, FLAGS.batch_size), verbose=0
    )
    print(
        f"Test accuracy {accuracy:.2%}, loss {loss:.4f} on "
        f"{data.num_test} images of {FLAGS.dataset}"
    )


if __name__ == "__main__":
    errors.run(main)
