"""The flags that describe an experiment, and what is built from them."""

import os

import keras
import tensorflow as tf
from absl import flags

import fr_keras
from trainers.errors import UsageError
from trainers.optimizer import CoupledSGD

FLAGS = flags.FLAGS

flags.DEFINE_enum(
    "algorithm", "features_replay", sorted(fr_keras.ALGORITHMS),
    "Training algorithm.",
)
flags.DEFINE_enum("model", "resnet", ["resnet"], "Family of networks.")
flags.DEFINE_integer(
    "depth", 20,
    f"Layers of the network, one of {fr_keras.models.RESNET_DEPTHS}.",
)
flags.DEFINE_integer(
    "num_modules", 4, "K, the number of modules the network is cut into.",
    lower_bound=1,
)
flags.DEFINE_list(
    "devices", None,
    "Devices of the modules, for example GPU:0,GPU:1; shared round-robin if "
    "there are fewer than modules. Default: all GPUs, or else one logical CPU "
    "device for each module.",
)
flags.DEFINE_string(
    "dataset", "digits",
    "Image classification set: digits (prepared without a network) or the "
    "name of any set of TensorFlow Datasets, like cifar10.",
)
flags.DEFINE_string(
    "data_dir", None,
    "Where prepared datasets lie. Default: ~/tensorflow_datasets.",
)
flags.DEFINE_list(
    "mean", None,
    "Mean of every channel, pixels being 0 to 255. Default: measured on the "
    "training set.",
)
flags.DEFINE_list(
    "std", None, "Standard deviation of every channel, like --mean."
)
flags.DEFINE_integer(
    "crop_padding", 0,
    "Augmentation: pad by so many pixels and crop at a random place.",
    lower_bound=0,
)
flags.DEFINE_bool("flip", False, "Augmentation: flip at random, left-right.")
flags.DEFINE_integer("batch_size", 128, "Examples per step.", lower_bound=1)
flags.DEFINE_integer("epochs", 300, "Passes over the data.", lower_bound=1)
flags.DEFINE_float("learning_rate", 0.01, "Initial learning rate.")
flags.DEFINE_list(
    "learning_rate_drops", [],
    "Epochs after which the learning rate drops, for example 150,225.",
)
flags.DEFINE_float(
    "learning_rate_factor", 0.1,
    "What the learning rate is multiplied by at each drop.",
)
flags.DEFINE_float(
    "momentum", 0.9, "Momentum of SGD.", lower_bound=0.0, upper_bound=1.0
)
flags.DEFINE_bool("nesterov", True, "Nesterov momentum.")
flags.DEFINE_float(
    "weight_decay", 5e-4,
    "Weight decay, added to the gradient before momentum, as in the paper.",
    lower_bound=0.0,
)
flags.DEFINE_integer(
    "steps_per_execution", 8,
    "Iterations in one graph; with several, they overlap across modules.",
    lower_bound=1,
)
flags.DEFINE_integer(
    "seed", 0, "Seed of initialization, shuffling and augmentation.",
    lower_bound=0, upper_bound=2**31 - 1,
)

EXPERIMENT_FLAGS = (
    "algorithm", "model", "depth", "num_modules", "devices", "dataset",
    "data_dir", "mean", "std", "crop_padding", "flip", "batch_size", "epochs",
    "learning_rate", "learning_rate_drops", "learning_rate_factor",
    "momentum", "nesterov", "weight_decay", "steps_per_execution", "seed",
)


@flags.validator(
    "depth", f"--depth must be one of {fr_keras.models.RESNET_DEPTHS}"
)
def _is_known_depth(depth):
    return depth in fr_keras.models.RESNET_DEPTHS


@flags.validator("learning_rate", "--learning_rate must be positive and finite")
def _is_positive(learning_rate):
    return 0 < learning_rate < float("inf")


@flags.validator(
    "learning_rate_drops",
    "--learning_rate_drops must be increasing epochs, like 150,225",
)
def _are_increasing_epochs(drops):
    try:
        drops = [int(epoch) for epoch in drops]
    except ValueError:
        return False
    return all(a < b for a, b in zip([0, *drops], drops))


def _are_numbers(values, positive):
    try:
        numbers = [float(value) for value in values or []]
    except ValueError:
        return False
    return all(
        abs(number) < float("inf") and (number > 0 or not positive)
        for number in numbers
    )


@flags.validator("mean", "--mean must be numbers, one for each channel")
def _is_mean(mean):
    return _are_numbers(mean, positive=False)


@flags.validator("std", "--std must be positive numbers, one for each channel")
def _is_std(std):
    return _are_numbers(std, positive=True)


def start():
    """Configures devices, before TensorFlow starts."""
    if not FLAGS.devices and not tf.config.list_physical_devices("GPU"):
        tf.config.set_logical_device_configuration(
            tf.config.list_physical_devices("CPU")[0],
            [tf.config.LogicalDeviceConfiguration()] * FLAGS.num_modules,
        )
        # Modules work side by side, so their operations need not be split up.
        cores = len(os.sched_getaffinity(0))
        tf.config.threading.set_intra_op_parallelism_threads(
            max(1, cores // FLAGS.num_modules)
        )
        tf.config.threading.set_inter_op_parallelism_threads(cores)


def build_network(image_shape, num_classes):
    """The uncut network that the flags describe.

    Args:
        image_shape: tuple `(height, width, channels)`.
        num_classes: int.

    Returns:
        `keras.Model` from images to logits.
    """
    # Here and not earlier: preparing a dataset draws random numbers too.
    keras.utils.set_random_seed(FLAGS.seed)
    return fr_keras.models.resnet(FLAGS.depth, num_classes, image_shape)


def build_algorithm(network, steps_per_epoch):
    """The network cut, placed and compiled as the flags say.

    Args:
        network: `keras.Model`.
        steps_per_epoch: int, batches in an epoch.

    Returns:
        Compiled `fr_keras` algorithm.

    Raises:
        UsageError: if the network cannot be cut like that, or a device does
            not exist.
    """
    try:
        model = fr_keras.ALGORITHMS[FLAGS.algorithm](
            network, FLAGS.num_modules, FLAGS.devices or None
        )
    except ValueError as error:
        raise UsageError(str(error)) from error
    drops = [
        int(epoch) * steps_per_epoch for epoch in FLAGS.learning_rate_drops
    ]
    model.compile(
        CoupledSGD(
            keras.optimizers.schedules.PiecewiseConstantDecay(
                [step - 1 for step in drops],
                [
                    FLAGS.learning_rate * FLAGS.learning_rate_factor**i
                    for i in range(len(drops) + 1)
                ],
            )
            if drops
            else FLAGS.learning_rate,
            momentum=FLAGS.momentum,
            nesterov=FLAGS.nesterov,
            coupled_weight_decay=FLAGS.weight_decay,
        ),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        steps_per_execution=FLAGS.steps_per_execution,
    )
    return model
