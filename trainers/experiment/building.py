"""Builds the network, optimizer and algorithm that the flags describe."""

import contextlib

import keras
import tensorflow as tf
from absl import flags

import fr_keras
from fr_keras.engine import placement
from trainers.command import allocators, cores
from trainers.command.errors import UsageError
from trainers.data.text_data import TextData
from trainers.experiment import networks
from trainers.experiment.experiment_flags import (
    ALGORITHM_FLAGS,
    FORMER_DEFAULTS,
    MAX_EPOCHS,
)
from trainers.experiment.learning_rate import learning_rate
from trainers.experiment.optimizer import CoupledSGD
from trainers.experiment.perplexity import Perplexity
from trainers.experiment.smoothed_loss import SmoothedCrossentropy

FLAGS = flags.FLAGS


def start(elsewhere=False):
    """Configures devices, before TensorFlow starts.

    Args:
        elsewhere: bool, whether other processes do the training.
    """
    keras.config.set_dtype_policy(FLAGS.dtype_policy)
    if FLAGS.deterministic:
        tf.config.experimental.enable_op_determinism()
    if elsewhere:
        tf.config.set_visible_devices([], "GPU")  # A worker may use them.
        return
    allocators.set_up()
    if FLAGS.devices:
        on_cpus = any("CPU" in device.upper() for device in FLAGS.devices)
    else:
        on_cpus = not tf.config.list_physical_devices("GPU")
    if on_cpus:
        num_devices = FLAGS.num_modules * FLAGS.replicas
        tf.config.set_logical_device_configuration(
            tf.config.list_physical_devices("CPU")[0],
            [tf.config.LogicalDeviceConfiguration()] * num_devices,
        )
        # Modules run in parallel, so their operations need not be split.
        num_cores = len(cores.available())
        tf.config.threading.set_intra_op_parallelism_threads(
            max(1, num_cores // num_devices)
        )
        tf.config.threading.set_inter_op_parallelism_threads(num_cores)


def first_device():
    """The full name of the first module's device.

    Raises:
        UsageError: if it does not exist.
    """
    with _told():
        return placement.assign_devices(1, FLAGS.devices or None)[0]


def build_network(data):
    """The network that the flags describe, before the split.

    Args:
        data: `trainers.data.data.Data`, which it will be trained on.

    Returns:
        `keras.Model` from examples to logits.

    Raises:
        UsageError: if there is no such network, or it does not fit the data.
    """
    # Not earlier, because preparing a dataset draws random numbers too.
    keras.utils.set_random_seed(FLAGS.seed)
    network = networks.build(_given(data))
    data.suit(networks.inputs(network))
    networks.check(f"--model={FLAGS.model}", network, data)
    return network


def _given(data):
    """What the data say of the network, a dict as `networks.build` takes it."""
    inputs, labels = data.input_spec, data.train.element_spec[1]
    found = {
        "num_classes": data.num_classes, "label_shape": tuple(labels.shape)
    }
    if isinstance(inputs, tf.TensorSpec):
        found["input_shape"] = tuple(inputs.shape)
        if inputs.dtype.is_integer and inputs.shape == labels.shape:
            found["vocabulary_size"] = data.num_classes
    if isinstance(data, TextData):
        found["vocabulary_size"] = data.vocabulary_size
        found["padding"] = data.tokenizer.padding
    return found


def algorithm_arguments():
    """The arguments specific to the algorithm of the experiment.

    Returns:
        dict from names to values.

    Raises:
        UsageError: if a flag was given that the algorithm does not read.
    """
    own = ALGORITHM_FLAGS[FLAGS.algorithm]
    for name in sorted({*sum(ALGORITHM_FLAGS.values(), ())} - {*own}):
        if FLAGS[name].value not in (
            FLAGS[name].default, FORMER_DEFAULTS.get(name)
        ):
            raise UsageError(
                f"--{name} does not apply to --algorithm={FLAGS.algorithm}. "
                f"Received: {FLAGS[name].serialize()}"
            )
    arguments = {
        name: FLAGS[name].value for name in own
        # `None` leaves the choice to the algorithm.
        if FLAGS[name].value is not None
    }
    if "replay_microbatches" in arguments:
        arguments["num_microbatches"] = arguments.pop("replay_microbatches")
    if "synthesizer_learning_rate" in arguments:
        arguments["synthesizer_optimizer"] = keras.optimizers.Adam(
            arguments.pop("synthesizer_learning_rate")
        )
    return arguments


def examples_per_epoch(num_train):
    """The number of training examples used in an epoch.

    Args:
        num_train: int, size of the training set.

    Raises:
        UsageError: if no batch is left, or a batch cannot be split.
    """
    remainder = num_train % FLAGS.batch_size
    sizes = {min(FLAGS.batch_size, num_train), remainder}
    if FLAGS.drop_remainder:
        if num_train < FLAGS.batch_size:
            raise UsageError(
                f"--batch_size must be at most the {num_train} training "
                f"examples with --drop_remainder. Received: {FLAGS.batch_size}"
            )
        sizes = {FLAGS.batch_size}
    for name in ("num_microbatches", "replay_microbatches"):
        count = FLAGS[name].value
        if name not in ALGORITHM_FLAGS[FLAGS.algorithm] or count in (None, 1):
            continue
        divisor = f"--{name}={count}"
        if FLAGS.replicas > 1:
            divisor += f" times --replicas={FLAGS.replicas}"
        for size in sizes:
            if size % (count * FLAGS.replicas):
                raise UsageError(
                    f"The size of every batch must be divisible by {divisor} "
                    f"(see --drop_remainder). Received: a batch of {size} of "
                    f"the {num_train} training examples"
                )
    return num_train - remainder * FLAGS.drop_remainder


def measure_costs(network):
    """The costs of a network's layers, for `--balance=measured`.

    Args:
        network: `keras.Model`.

    Returns:
        Dict as returned by `fr_keras.measure_costs`, or `None` if unmeasured.
    """
    if FLAGS.balance != "measured":
        return None
    examples = networks.example(network, FLAGS.batch_size)
    with _told():
        return fr_keras.measure_costs(network, examples, first_device())


@contextlib.contextmanager
def _told():
    """Raises `UsageError` if the library raises `ValueError`."""
    try:
        yield
    except ValueError as error:
        raise UsageError(str(error)) from error


def build_algorithm(network, steps_per_epoch, costs=None, data=None):
    """Splits, places and compiles a network as the flags say.

    Args:
        network: `keras.Model`.
        steps_per_epoch: int, batches in an epoch.
        data: `trainers.data.data.Data`, for metrics of its own.
        costs: as returned by `measure_costs`.

    Returns:
        Compiled `fr_keras` algorithm.

    Raises:
        UsageError: if the network cannot be split like that, or a device does
            not exist.
    """
    with _told():
        model = fr_keras.ALGORITHMS[FLAGS.algorithm](
            network, FLAGS.num_modules, FLAGS.devices or None,
            costs=costs, replicas=FLAGS.replicas, link_dtype=FLAGS.link_dtype,
            **algorithm_arguments(),
        )
    rate = learning_rate(
        FLAGS.learning_rate, steps_per_epoch,
        # Independent of --epochs, which may be raised later. (No run gets to
        # drops beyond that, which would not fit into int64.)
        [e for e in map(int, FLAGS.learning_rate_drops) if e < MAX_EPOCHS],
        FLAGS.learning_rate_factor, FLAGS.warmup_epochs,
        FLAGS.epochs if FLAGS.learning_rate_schedule == "cosine" else None,
    )
    metrics = ["accuracy"]
    if isinstance(data, TextData) and data.is_language:
        metrics.append(Perplexity())
    model.compile(
        build_optimizer(rate),
        build_loss(),
        metrics=metrics,
        steps_per_execution=FLAGS.steps_per_execution,
    )
    return model


def build_loss():
    """The loss that the flags describe, of integer labels and logits."""
    if FLAGS.label_smoothing:
        return SmoothedCrossentropy(FLAGS.label_smoothing)
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def build_optimizer(learning_rate):
    """The optimizer that the flags describe.

    Args:
        learning_rate: float or schedule.

    Returns:
        `keras.optimizers.Optimizer`.

    Raises:
        UsageError: if a flag was given that the optimizer does not read.
    """
    if FLAGS.optimizer == "sgd":
        return CoupledSGD(
            learning_rate, momentum=FLAGS.momentum, nesterov=FLAGS.nesterov,
            coupled_weight_decay=FLAGS.weight_decay,
            global_clipnorm=FLAGS.global_clipnorm,
        )
    for name in ("momentum", "nesterov"):
        if FLAGS[name].value != FLAGS[name].default:
            raise UsageError(
                f"--{name} does not apply to --optimizer={FLAGS.optimizer}. "
                f"Received: {FLAGS[name].serialize()}"
            )
    return keras.optimizers.AdamW(
        learning_rate, weight_decay=FLAGS.weight_decay,
        global_clipnorm=FLAGS.global_clipnorm,
    )
