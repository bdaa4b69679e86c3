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
from trainers.command import cores, errors, gpu_memory

FLAGS = flags.FLAGS

flags.DEFINE_list(
    "devices", [],
    "Devices to examine, one for each module of the small training. Default: "
    "all GPUs, or a CPU device for each core (2 to 8); if there is only one "
    "GPU, two modules share it.",
)


def main():
    found = []

    def report(finding):
        found.append(finding)
        print(finding.line(), flush=True)

    gpu_memory.let_grow()
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
    gpus = tf.config.list_physical_devices("GPU")
    names = FLAGS.devices or [f"GPU:{i}" for i in range(len(gpus))]
    numbers = [
        int(number) for number in re.findall(
            r"\bCPU:(\d{1,2})$", "\n".join(names).upper(), re.M
        )
    ]
    if numbers or not names:
        # Logical devices, as many as are named.
        count = max(2, min(8, len(cores.available())))
        fr_keras.use_cpu_devices(max([count, *(n + 1 for n in numbers)]))
        names = names or [f"CPU:{i}" for i in range(count)]
    if len(names) == 1:
        names = names * 2
    try:
        return [*placement.assign_devices(len(names), names)]
    except ValueError as error:
        raise errors.UsageError(str(error)) from error


if __name__ == "__main__":
    errors.run(main)
