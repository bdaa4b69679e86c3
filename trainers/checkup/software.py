"""TensorFlow, the driver of NVIDIA's GPUs and the CUDA libraries."""

import ctypes
import glob
import importlib.metadata
import os
import pathlib
import platform
import re
import sysconfig

import keras
import tensorflow as tf

from fr_keras.versions import VERSION
from trainers.checkup.findings import FAIL, NOTE, OK, Finding
from trainers.command import cores

INSTALL = "pip install 'fr-keras[gpu]'"

# What TensorFlow opens to use a GPU, by the wheel that has it (names of wheels
# end in -cu12), and what is lost without it.
_LIBRARIES = {
    "nvidia-cuda-runtime": ["libcudart.so.12"],
    "nvidia-cublas": ["libcublas.so.12", "libcublasLt.so.12"],
    "nvidia-cudnn": ["libcudnn.so.9"],
    "nvidia-cufft": ["libcufft.so.11"],
    "nvidia-cusolver": ["libcusolver.so.11"],
    "nvidia-cusparse": ["libcusparse.so.12"],
    "nvidia-nvjitlink": ["libnvJitLink.so.12"],
    "nvidia-nccl": ["libnccl.so.2"],
    "nvidia-cuda-cupti": ["libcupti.so.12"],
}
_ONLY_FOR = {
    "libcupti.so.12": "only TensorBoard's profiler needs it",
    "libnccl.so.2": "only TensorFlow's own strategies need it",
}


def examine(report):
    """Examines what is installed, before TensorFlow starts.

    Args:
        report: callable that takes a `Finding`.
    """
    build = tf.sysconfig.get_build_info()
    report(Finding(
        OK, "Versions",
        f"fr_keras {VERSION}, TensorFlow {tf.__version__}, Keras "
        f"{keras.__version__}, Python {platform.python_version()}; "
        f"{len(cores.available())} CPU cores",
    ))
    if keras.backend.backend() != "tensorflow":
        report(Finding(
            FAIL, "Backend",
            "Keras must run on TensorFlow; set KERAS_BACKEND=tensorflow. "
            f"Received: {keras.backend.backend()}",
        ))
    gpus = tf.config.list_physical_devices("GPU")
    cards = _cards()
    if not (gpus or cards):
        report(Finding(
            NOTE, "GPU", "no NVIDIA GPU in this machine; modules use CPU cores"
        ))
        return
    if not build["is_cuda_build"]:
        report(Finding(
            FAIL, "TensorFlow",
            f"this build is for CPUs only; {INSTALL} in an environment "
            "without tensorflow-cpu",
        ))
        return
    report(Finding(
        OK, "TensorFlow",
        f"built for CUDA {build['cuda_version']} and cuDNN "
        f"{build['cudnn_version']}",
    ))
    _examine_driver(report)
    _examine_libraries(report)
    _examine_gpus(gpus, cards, build, report)


def _cards():
    """The NVIDIA GPUs that the system has, whether usable or not."""
    return glob.glob("/proc/driver/nvidia/gpus/*") or glob.glob(
        "/dev/nvidia[0-9]*"
    )


def _examine_driver(report):
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        report(Finding(
            FAIL, "Driver",
            "libcuda.so.1 is missing: install NVIDIA's driver, or start the "
            "container with its GPUs (docker run --gpus=all)",
        ))
        return
    version = ctypes.c_int()
    driver.cuDriverGetVersion(ctypes.byref(version))
    supported = f"{version.value // 1000}.{version.value % 1000 // 10}"
    if version.value < 12_000:
        report(Finding(
            FAIL, "Driver",
            "the driver must support CUDA 12; update it to version 525 or "
            f"newer. Received: CUDA {supported}",
        ))
        return
    report(Finding(OK, "Driver", f"supports CUDA up to {supported}"))


def _examine_libraries(report):
    for wheel, names in _LIBRARIES.items():
        for name in names:
            found = _find(name)
            if found:
                report(Finding(OK, "Library", f"{name}: {found}"))
                continue
            report(Finding(
                NOTE if name in _ONLY_FOR else FAIL, "Library",
                f"{name} is missing: {INSTALL} (it is in {wheel}-cu12)"
                + f"; {_ONLY_FOR.get(name)}" * (name in _ONLY_FOR),
            ))


def _find(name):
    """Where TensorFlow finds a library: in a wheel, or on the system's path."""
    wheels = pathlib.Path(sysconfig.get_path("platlib"), "nvidia")
    for found in wheels.glob(f"*/lib/{name}"):
        return f"wheel {_version(found.parts[-3])}"
    try:
        ctypes.CDLL(name)
    except OSError:
        return None
    return "system"


def _version(folder):
    """The version of the wheel that has a folder of libraries."""
    wheel = f"nvidia-{folder.replace('_', '-')}-cu12"
    try:
        return importlib.metadata.version(wheel)
    except importlib.metadata.PackageNotFoundError:
        return "of an unknown version"


def _examine_gpus(gpus, cards, build, report):
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    if hidden is not None and len(gpus) < len(cards):
        report(Finding(
            NOTE, "GPU", f"CUDA_VISIBLE_DEVICES={hidden!r} hides GPUs",
        ))
    elif not gpus:
        report(Finding(
            FAIL, "GPU",
            f"{len(cards)} in this machine, but TensorFlow can use none: see "
            "what is missing above",
        ))
    compiled = [int(n) for n in re.findall(
        r"_(\d+)", " ".join(build["cuda_compute_capabilities"])
    )]
    for gpu in gpus:
        details = tf.config.experimental.get_device_details(gpu)
        name = details.get("device_name", "of an unknown kind")
        major, minor = details.get("compute_capability", (0, 0))
        report(Finding(
            OK, gpu.name.rpartition("physical_device:")[2],
            f"{name}, compute capability {major}.{minor}"
        ))
        if compiled and major > max(compiled) // 10:
            report(Finding(
                NOTE, "Kernels",
                f"TensorFlow has none compiled for {name}; they are compiled "
                "when first used, which can take half an hour once",
            ))
        if (major, minor) >= (8, 0):
            report(Finding(
                NOTE, "Precision",
                "by default TensorFlow multiplies float32 with 10 bits of "
                "mantissa on this GPU (TensorFloat-32); this examination has "
                "turned that off",
            ))
