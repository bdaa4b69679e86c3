r"""Predicts how fast a network would train on K identical devices.

    python -m trainers.plan --model=resnet --depth=56 --batch_size=128
    python -m trainers.plan --model=my_model.keras --batch_size=32 \
        --gbits_per_second=10,100 --numbers_of_modules=2,4,8
    python -m trainers.plan --flagfile=configs/plan_transformer.cfg

Measures the layers of a network on one device, finds the best split for every
method and number of devices, and simulates the schedule: iterations per second
of Features Replay, with whole batches and with --num_microbatches, and of DDG,
exact pipelines of as many (GPipe, which recomputes; 1F1B; zero bubble;
interleaved 1F1B, with two modules on each device) and back-propagation; the
memory that Features Replay needs on the fullest device; the data that crosses a
boundary between devices, and whether the links can keep up. With --exact,
methods with late gradients are left out, and memory is that of GPipe. For
devices you do not have, give their speed with --teraflops; then nothing is
measured.

Gradients of weights are assumed to take half of a backward pass.

With --num_devices=8 the table has all ways to use so many devices: K modules in
r replicas, K r = 8; and names the fastest that fits into --device_memory. With
--num_machines=2, it says which devices should be in one machine.
"""

import keras
import tensorflow as tf
from absl import flags

from fr_keras.planning.layouts import predict_layouts
from fr_keras.planning.planner import Planner
from trainers.command import allocators, errors
from trainers.command.validation import are_numbers, is_positive
from trainers.experiment import network_flags, networks
from trainers.results import plan_tables

FLAGS = flags.FLAGS

flags.adopt_module_key_flags(network_flags)
flags.DEFINE_integer(
    "image_size", None,
    "Height and width of the images that the network takes. Default: 32 for a "
    "resnet, otherwise what the network is made for.",
    lower_bound=8, upper_bound=10_000,
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
flags.DEFINE_integer(
    "num_microbatches", 8,
    "M, of the exact pipelines and of Features Replay in micro-batches; left "
    "out where a batch cannot be divided so.",
    lower_bound=1, upper_bound=10_000,
)
flags.DEFINE_bool(
    "exact", False,
    "Leave out Features Replay and DDG, whose gradients are late.",
)
flags.DEFINE_integer(
    "num_devices", None,
    "Plan for so many devices: all K modules × r replicas. Default: K devices.",
    lower_bound=1, upper_bound=10_000,
)
flags.DEFINE_integer(
    "num_machines", 1,
    "(--num_devices) Machines that have the devices, as many each. What should "
    "stay in one machine, modules of a pipeline or copies of a module, follows "
    "from the bytes; all links have the same bandwidth.",
    lower_bound=1, upper_bound=10_000,
)
flags.DEFINE_float(
    "device_memory", None,
    "(--num_devices) Memory of a device, in 10^9 bytes. Default: unlimited.",
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
    "device_memory", lambda size: size is None or is_positive(size),
    "must be positive and finite",
)
flags.register_multi_flags_validator(
    ["num_devices", "device_memory"],
    lambda values: values["num_devices"] or values["device_memory"] is None,
    "--device_memory needs --num_devices",
)
flags.register_multi_flags_validator(
    ["num_devices", "num_machines"],
    lambda values: (
        values["num_machines"] == 1
        or (values["num_devices"] or 0) > 0
        and values["num_devices"] % values["num_machines"] == 0
    ),
    "--num_devices must be a multiple of --num_machines",
)
flags.register_validator(
    "teraflops", lambda rate: rate is None or is_positive(rate),
    "must be positive and finite",
)


def main():
    allocators.set_up()
    tf.config.threading.set_intra_op_parallelism_threads(FLAGS.cores)
    tf.config.threading.set_inter_op_parallelism_threads(FLAGS.cores)
    keras.config.set_dtype_policy(FLAGS.dtype_policy)
    size = FLAGS.image_size
    if size and FLAGS.model == "transformer":
        raise errors.UsageError(
            "--image_size does not apply to --model=transformer. Received: "
            f"{size}"
        )
    network = networks.build({"input_shape": (size, size, 3)} if size else {})
    x = networks.example(network, FLAGS.batch_size)
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
    if FLAGS.num_devices:
        print("\n\n".join(
            plan_tables.plan_of_devices(
                layouts(planner, float(rate) * 1e9 / 8), FLAGS.batch_size,
                rate, FLAGS.device_memory and FLAGS.device_memory * 1e9,
                FLAGS.num_microbatches, _methods(), FLAGS.num_machines,
            )
            for rate in FLAGS.gbits_per_second
        ))
        return
    one = planner.predict(1)
    by_link = {
        rate: predictions(planner, float(rate) * 1e9 / 8)
        for rate in FLAGS.gbits_per_second
    }
    if len(by_link) == 1:
        (found,) = by_link.values()
        print(plan_tables.plan(
            found, one, FLAGS.batch_size, FLAGS.num_microbatches, _methods()
        ))
    else:
        print(plan_tables.plan_of_links(
            by_link, one, FLAGS.batch_size, FLAGS.num_microbatches, _methods()
        ))


def layouts(planner, bytes_per_second):
    """Dict from `(K, r)` with K r devices, where possible, to `Prediction`."""
    found = predict_layouts(
        planner, FLAGS.num_devices, FLAGS.batch_size, bytes_per_second,
        FLAGS.latency, **_options(),
    )
    if not found:
        raise errors.UsageError(
            "--batch_size must be at least the number of pipelines, "
            f"{FLAGS.num_devices} or fewer. Received: {FLAGS.batch_size}"
        )
    return found


def _methods():
    """The names of the methods to compare, the first of them in more detail."""
    return plan_tables.EXACT if FLAGS.exact else tuple(plan_tables.METHODS)


def _options():
    """What is predicted, keyword arguments of `Planner.predict`."""
    return {
        "schedules": _methods(),
        "modules_per_device": plan_tables.TURNS,
        "num_microbatches": FLAGS.num_microbatches,
    }


def predictions(planner, bytes_per_second):
    """Dict from K, as far as the network can be split, to `Prediction`."""
    found = {}
    for num_modules in map(int, FLAGS.numbers_of_modules):
        try:
            found[num_modules] = planner.predict(
                num_modules, bytes_per_second, FLAGS.latency, **_options()
            )
        except ValueError as error:
            # There are too few places to split.
            if num_modules == min(map(int, FLAGS.numbers_of_modules)):
                raise errors.UsageError(str(error)) from error
    return found


if __name__ == "__main__":
    errors.run(main)
