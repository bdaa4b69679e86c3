r"""Predicts how fast a network would train on K identical devices.

    python -m trainers.plan --network=resnet --depth=56 --batch_size=128
    python -m trainers.plan --model_file=my_model.keras --batch_size=32 \
        --gbits_per_second=10,100 --numbers_of_modules=2,4,8
    python -m trainers.plan --flagfile=configs/plan_transformer.cfg

Measures the layers of a network on one device, finds the best split for every
number of devices, and simulates the schedule: iterations per second of Features
Replay, and of back-propagation, GPipe (4 micro-batches, recomputing) and DDG
over the same modules; the memory of the fullest device; the data that crosses a
boundary between devices, and whether the links can keep up. For devices you do
not have, give their speed with --teraflops; then nothing is measured.
"""

import inspect
import os

import keras
import numpy as np
import tensorflow as tf
from absl import flags

import fr_keras
from fr_keras.engine.nested import is_graph
from fr_keras.planning.planner import Planner
from trainers.command import errors
from trainers.command.validation import are_numbers, is_positive
from trainers.results import plan_tables

FLAGS = flags.FLAGS

OWN_NETWORKS = ("resnet", "transformer")
APPLICATIONS = tuple(
    name for name, function in inspect.getmembers(keras.applications)
    if inspect.isfunction(function)
)

flags.DEFINE_string(
    "network", "resnet",
    "The network: resnet (--depth, --image_size), transformer (--depth, "
    "--width, --num_heads, --vocabulary_size, --length), or the name of a "
    "model in keras.applications, like ResNet152.",
)
flags.DEFINE_string(
    "model_file", None,
    "File of a Keras model (.keras) to plan for, instead of --network.",
)
flags.DEFINE_integer(
    "depth", 20,
    "Layers of a resnet, one of "
    f"{', '.join(map(str, fr_keras.models.RESNET_DEPTHS))}, or blocks of a "
    "transformer.",
    lower_bound=1, upper_bound=10_000,
)
flags.DEFINE_integer(
    "image_size", 32, "Height and width of the images of a resnet.",
    lower_bound=8, upper_bound=10_000,
)
for _name, _default, _help in (
    ("width", 512, "Length of the vectors of a transformer."),
    ("num_heads", 8, "Attention heads of a transformer."),
    ("vocabulary_size", 32_000, "Number of different tokens of a transformer."),
    ("length", 512, "Tokens per sequence of a transformer."),
):
    flags.DEFINE_integer(
        _name, _default, _help, lower_bound=1, upper_bound=1_000_000
    )
flags.DEFINE_enum(
    "dtype_policy", "float32", ["float32", "mixed_bfloat16", "mixed_float16"],
    "Keras' policy for the data types of the network.",
)
flags.DEFINE_integer(
    "batch_size", 128, "Examples per iteration.", lower_bound=1,
    upper_bound=1_000_000,
)
flags.DEFINE_list(
    "numbers_of_modules", [str(k) for k in range(1, 17)],
    "Numbers of modules K; a K for which the network has too few split points "
    "is left out.",
)
flags.DEFINE_list(
    "gbits_per_second", ["100"],
    "Bandwidths of the links between neighbouring devices, in 10^9 bits per "
    "second.",
)
flags.DEFINE_float(
    "latency", 1e-5,
    "Latency of a link: seconds until sent data begins to arrive."
)
flags.DEFINE_string(
    "device", None,
    "Device to measure on. Default: the first GPU if there is one, otherwise a "
    "CPU core.",
)
flags.DEFINE_integer("cores", 1, "CPU cores per device.", lower_bound=1,
                     upper_bound=10_000)
flags.DEFINE_float(
    "teraflops", None,
    "Sustained speed of a device that you do not have, in 10^12 floating-point "
    "operations per second. Default: a device is measured.",
)

flags.register_validator(
    "network",
    lambda name: name in OWN_NETWORKS + APPLICATIONS,
    f"must be one of {', '.join(OWN_NETWORKS + APPLICATIONS)}",
)
flags.register_multi_flags_validator(
    ["network", "depth"],
    lambda values: values["network"] != "resnet"
    or values["depth"] in fr_keras.models.RESNET_DEPTHS,
    f"--depth of a resnet must be one of {fr_keras.models.RESNET_DEPTHS}",
)
flags.register_validator(
    "numbers_of_modules",
    lambda values: are_numbers(values, lowest=1),
    "must be distinct integers of at least 1, like 2,3,4",
)
# Comparisons with nan are false, so these validators refuse it.
flags.register_validator(
    "latency", lambda seconds: 0 <= seconds <= 10, "must be from 0 to 10"
)
flags.register_validator(
    "gbits_per_second",
    lambda rates: rates and all(map(is_positive, rates)),
    "must be positive and finite numbers",
)
flags.register_validator(
    "teraflops", lambda rate: rate is None or is_positive(rate),
    "must be positive and finite",
)


def main():
    tf.config.threading.set_intra_op_parallelism_threads(FLAGS.cores)
    tf.config.threading.set_inter_op_parallelism_threads(FLAGS.cores)
    keras.config.set_dtype_policy(FLAGS.dtype_policy)
    network = load_network()
    x = keras.tree.map_structure(
        lambda tensor: example(tensor, FLAGS.batch_size), network.input
    )
    try:
        planner = Planner(
            network, x, FLAGS.device,
            flops_per_second=FLAGS.teraflops and FLAGS.teraflops * 1e12,
        )
    except (TypeError, ValueError) as error:
        raise errors.UsageError(str(error)) from error
    whole = planner.whole
    print(
        f"{network.name}, {network.count_params():,} parameters, batches of "
        f"{FLAGS.batch_size}, on one device: forward "
        f"{whole.forward * 1e3:.1f} ms, backward {whole.backward * 1e3:.1f} ms"
        + ", update not counted" * bool(FLAGS.teraflops)
        + f", update {whole.update * 1e3:.1f} ms" * (not FLAGS.teraflops)
        + "\n"
    )
    one = planner.predict(1)
    by_link = {
        rate: predictions(planner, float(rate) * 1e9 / 8)
        for rate in FLAGS.gbits_per_second
    }
    if len(by_link) == 1:
        (found,) = by_link.values()
        print(plan_tables.plan(found, one, FLAGS.batch_size))
    else:
        print(plan_tables.plan_of_links(by_link, one))


def predictions(planner, bytes_per_second):
    """Dict from K, as far as the network can be split, to `Prediction`."""
    found = {}
    for num_modules in map(int, FLAGS.numbers_of_modules):
        try:
            found[num_modules] = planner.predict(
                num_modules, bytes_per_second, FLAGS.latency
            )
        except ValueError as error:
            # There are too few places to split.
            if num_modules == min(map(int, FLAGS.numbers_of_modules)):
                raise errors.UsageError(str(error)) from error
    return found


def load_network():
    if FLAGS.model_file:
        return load_file(os.path.expanduser(FLAGS.model_file))
    try:
        if FLAGS.network == "transformer":
            return fr_keras.models.transformer(
                FLAGS.depth, FLAGS.width, FLAGS.num_heads,
                FLAGS.vocabulary_size, FLAGS.length,
            )
        if FLAGS.network == "resnet":
            shape = (FLAGS.image_size, FLAGS.image_size, 3)
            return fr_keras.models.resnet(FLAGS.depth, 10, shape)
        application = getattr(keras.applications, FLAGS.network)
        return application(weights=None, classifier_activation=None)
    except ValueError as error:
        raise errors.UsageError(str(error)) from error


def load_file(path):
    try:
        network = keras.saving.load_model(path, compile=False)
    except Exception as error:
        raise errors.UsageError(
            f"--model_file cannot be loaded: {error}"
        ) from error
    if not is_graph(network):
        raise errors.UsageError(
            "--model_file must contain a Functional model, or a Sequential "
            f"model that starts with keras.Input. Received: {network!r}"
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
