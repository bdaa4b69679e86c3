"""A device for each module, on whatever accelerators there are."""

import shutil
import subprocess

import tensorflow as tf

import fr_keras
from trainers.command import allocators
from trainers.command.errors import UsageError


def start(count, megabytes=None):
    """Prepares devices, before TensorFlow starts.

    Args:
        count: int, the number of devices wanted.
        megabytes: float, the memory of each where they share a GPU, or `None`
            to divide all of it.

    Returns:
        List of `count` device names: as many GPUs; or, with fewer, logical
        devices of the first, where modules run side by side in streams of
        their own; or, without a GPU, logical devices of the CPU.
    """
    allocators.set_up()
    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        return fr_keras.use_cpu_devices(count)
    names = [f"GPU:{i}" for i in range(count)]
    if len(gpus) >= count:
        return names
    tf.config.set_visible_devices(gpus[0], "GPU")
    tf.config.set_logical_device_configuration(
        gpus[0], [
            tf.config.LogicalDeviceConfiguration(
                memory_limit=megabytes or _total_megabytes() * 0.9 / count
            )
        ] * count,
    )
    return names


def _total_megabytes():
    """The memory of the first GPU, which TensorFlow does not know."""
    if not shutil.which("nvidia-smi"):
        raise UsageError(
            "A GPU is divided into logical devices by its memory, which "
            "nvidia-smi reports; install it with NVIDIA's driver"
        )
    done = subprocess.run(
        [
            "nvidia-smi", "--query-gpu=memory.total",
            "--format=csv,noheader,nounits",
        ],
        capture_output=True, text=True, check=False,
    )
    try:
        return float(done.stdout.splitlines()[0])
    except (IndexError, ValueError):
        raise UsageError(
            "nvidia-smi must report the memory of the GPU. Received: "
            f"{(done.stdout + done.stderr).strip()!r}"
        ) from None
