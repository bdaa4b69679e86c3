r"""Predicts how fast a network would train on K devices like this one.

    python -m trainers.plan --depth=56 --batch_size=128
    python -m trainers.plan --model_file=my_model.keras --batch_size=32 \
        --gbits_per_second=100

Measures the layers of a network on one device, finds the best cut for every
number of devices, and simulates the schedule: iterations per second of Features
Replay, and of back-propagation, GPipe (4 micro-batches, recomputing) and DDG
over the same modules; the memory of the fullest device; what crosses a
boundary between devices, and whether the links can keep up.
"""

import os

import keras
import numpy as np
import tensorflow as tf
from absl import flags

import fr_keras
from fr_keras.graph import is_graph
from fr_keras.planning import Planner
from trainers import errors
from trainers.benchmarks import tables

FLAGS = flags.FLAGS

flags.DEFINE_integer(
    "depth", 20,
    "Layers of the ResNet: "
    f"{', '.join(map(str, fr_keras.models.RESNET_DEPTHS))}.",
)
flags.DEFINE_integer(
    "image_size", 32, "Height and width of the ResNet's images.",
    lower_bound=8, upper_bound=10_000,
)
flags.DEFINE_string(
    "model_file", None,
    "A Keras model (.keras) to be planned instead of a ResNet.",
)
flags.DEFINE_integer(
    "batch_size", 128, "Examples per iteration.", lower_bound=1,
    upper_bound=1_000_000,
)
flags.DEFINE_integer(
    "max_modules", 16, "The largest K.", lower_bound=1, upper_bound=1000
)
flags.DEFINE_float(
    "gbits_per_second", 100.0,
    "Bandwidth of the link between neighbouring devices, 10^9 bits a second.",
)
flags.DEFINE_float(
    "latency", 1e-5, "Seconds until what is sent begins to arrive."
)
flags.DEFINE_string(
    "device", None, "Where to measure. Default: the first GPU, or else a CPU "
    "core.",
)
flags.DEFINE_integer("cores", 1, "CPU cores of a device.", lower_bound=1,
                     upper_bound=10_000)

flags.register_validator(
    "depth",
    lambda depth: depth in fr_keras.models.RESNET_DEPTHS,
    f"must be one of {fr_keras.models.RESNET_DEPTHS}",
)
# Written so that nan, which compares as false, is refused.
flags.register_validator(
    "latency", lambda seconds: 0 <= seconds <= 10, "must be from 0 to 10"
)
flags.register_validator(
    "gbits_per_second", lambda rate: 0 < rate < float("inf"),
    "must be positive and finite",
)


def main():
    tf.config.threading.set_intra_op_parallelism_threads(FLAGS.cores)
    tf.config.threading.set_inter_op_parallelism_threads(FLAGS.cores)
    network = load_network()
    x = keras.tree.map_structure(
        lambda tensor: example(tensor, FLAGS.batch_size), network.input
    )
    try:
        planner = Planner(network, x, FLAGS.device)
    except (TypeError, ValueError) as error:
        raise errors.UsageError(str(error)) from error
    predictions = []
    for num_modules in range(1, FLAGS.max_modules + 1):
        try:
            predictions.append(planner.predict(
                num_modules, FLAGS.gbits_per_second * 1e9 / 8, FLAGS.latency
            ))
        except ValueError:
            break  # There are not so many places to cut.
    whole = planner.whole
    print(
        f"{network.name}, batches of {FLAGS.batch_size}, on one device: "
        f"forward {whole.forward * 1e3:.1f} ms, backward "
        f"{whole.backward * 1e3:.1f} ms, update {whole.update * 1e3:.1f} ms\n"
    )
    print(tables.plan(predictions, FLAGS.batch_size))


def load_network():
    if not FLAGS.model_file:
        shape = (FLAGS.image_size, FLAGS.image_size, 3)
        return fr_keras.models.resnet(FLAGS.depth, 10, shape)
    path = os.path.expanduser(FLAGS.model_file)
    try:
        network = keras.saving.load_model(path, compile=False)
    except Exception as error:
        raise errors.UsageError(
            f"--model_file cannot be loaded: {error}"
        ) from error
    if not is_graph(network):
        raise errors.UsageError(
            "--model_file must hold a Functional model, or a Sequential one "
            f"that begins with keras.Input. Received: {network!r}"
        )
    return network


def example(tensor, batch_size):
    """Random numbers, or zeros for integers, in the shape of an input."""
    if None in tensor.shape[1:]:
        raise errors.UsageError(
            "--model_file must have inputs of known shape. Received: "
            f"{tensor.name} of {tensor.shape}"
        )
    shape = (batch_size, *tensor.shape[1:])
    if tf.as_dtype(tensor.dtype).is_floating:
        return np.random.default_rng(0).normal(size=shape)
    return np.zeros(shape, tensor.dtype)


if __name__ == "__main__":
    errors.run(main)
