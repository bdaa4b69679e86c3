r"""Examines whether this machine can train, and how its devices are connected.

    fr-keras doctor
    fr-keras doctor --devices=GPU:0,GPU:1

Reports versions, the driver and the CUDA libraries that TensorFlow needs for
GPUs, found or missing; the bandwidth and latency between every two devices, and
whether data arrive there unchanged; and a small training on the devices,
compared with NumPy, with the CPU, compiled by XLA, and repeated. One line each:

    ok     as it should be
    note   worth knowing
    FAIL   training would not work or would give wrong numbers

The exit status is 0 if nothing failed, otherwise 1.
"""

import re

import tensorflow as tf
from absl import flags

import fr_keras
from fr_keras.engine import placement
from trainers.checkup import copies, software, training
from trainers.checkup.findings import FAIL, NOTE, OK, Finding, failures_of
from trainers.command import allocators, cores, errors, logical_devices

FLAGS = flags.FLAGS

# For each module of the small training, where they share a GPU.
_MEGABYTES = 1024

flags.DEFINE_list(
    "devices", [],
    "Devices to examine, one for each module of the small training. Default: "
    "all GPUs; two logical devices of the only one; or, without any, a CPU "
    "device for each core (2 to 8).",
)


def main():
    found = []

    def report(finding):
        found.append(finding)
        print(finding.line(), flush=True)

    # Numbers are compared.
    tf.config.experimental.enable_tensor_float_32_execution(False)
    with failures_of("Software", report):
        software.examine(report)
    devices = _devices()
    report(Finding(
        NOTE if len({*devices}) < len(devices) else OK, "Devices",
        ", ".join(map(placement.short_name, devices))
        + " (modules share a device)" * (len({*devices}) < len(devices)),
    ))
    copies.examine([*dict.fromkeys(devices)], report)
    training.examine(devices, report)
    failed = [finding for finding in found if finding.level == FAIL]
    if failed:
        raise errors.Diverged(
            f"{len(failed)} of {len(found)} examinations failed: "
            f"{', '.join(dict.fromkeys(of.subject for of in failed))}"
        )
    print("Ready to train.")


def _devices():
    """Full names of the devices of the modules."""
    if not FLAGS.devices:
        gpus = len(tf.config.list_physical_devices("GPU"))
        count = max(2, gpus or min(8, len(cores.available())))
        return _full_names(logical_devices.start(count, _MEGABYTES))
    numbers = [
        int(number) for number in re.findall(
            r"\bCPU:(\d{1,2})$", "\n".join(FLAGS.devices).upper(), re.M
        )
    ]
    if numbers:  # Logical devices, as many as are named.
        fr_keras.use_cpu_devices(max(numbers) + 1)
    allocators.set_up()
    names = FLAGS.devices
    if len(names) == 1:
        names = names * 2
    return _full_names(names)


def _full_names(names):
    try:
        return [*placement.assign_devices(len(names), names)]
    except ValueError as error:
        raise errors.UsageError(str(error)) from error


if __name__ == "__main__":
    errors.run(main)
