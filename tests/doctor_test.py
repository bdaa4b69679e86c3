"""`fr-keras doctor`: what is found, and what is wrong with a machine."""

import contextlib
import copy
import os
import subprocess
import sys
import types

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests import reference as plain
from tests.command_line import ROOT, command, complaint
from trainers.checkup import copies, reference, software, training
from trainers.checkup.findings import FAIL, NOTE, OK
from trainers.command import allocators, errors, logical_devices

DEVICES = [f"/job:localhost/replica:0/task:0/device:CPU:{i}" for i in (0, 1)]


def levels(examine, *args):
    """What an examination reports: list of pairs (level, subject)."""
    found = []
    examine(*args, found.append)
    return [(finding.level, finding.subject) for finding in found], [
        finding.text for finding in found
    ]


def test_a_machine_that_can_train():
    done = command("trainers", "doctor", "--devices=CPU:1,CPU:3,CPU:0")
    assert done.returncode == 0, done.stderr
    *lines, last = done.stdout.splitlines()
    assert last == "Ready to train."
    subjects = [line.split()[1] for line in lines]
    assert subjects == [
        "Versions", "GPU", "Devices", "CPU:1-CPU:3", "CPU:1-CPU:0",
        "CPU:3-CPU:0", "Algorithm", "Layers", "XLA", "Repeatable",
    ]
    assert {line.split()[0] for line in lines} <= {"ok", "note"}
    assert "K = 3" in done.stdout


@pytest.mark.parametrize("devices", ["GPU:7", "nonsense", "CPU:1,TPU:0"])
def test_devices_that_do_not_exist(devices):
    line = complaint(command("trainers.doctor", f"--devices={devices}"))
    assert "must name available devices" in line
    assert line.count("Received: device=") == 1


def test_a_wrong_training_is_a_failure(monkeypatch):
    """The exit status is that of a failure, and the line says which."""
    monkeypatch.setattr(training, "_FACTOR", 0)
    monkeypatch.setattr(training, "_TOLERANCE", 1e-12)
    monkeypatch.setattr(
        training, "_check_repeatable", lambda *_: (OK, "Repeatable", "")
    )
    found, texts = levels(training.examine, DEVICES)
    assert found == [
        (FAIL, "Algorithm"), (FAIL, "Layers"), (FAIL, "XLA"),
        (OK, "Repeatable"),
    ]
    assert "at most 1.0e-12 is expected" in texts[0]


def test_an_exception_is_a_failure(monkeypatch):
    """As a kernel that a device lacks; the examinations after it follow."""
    def broken(*_):
        raise tf.errors.UnimplementedError(None, None, "No kernel\nfor this")

    for name in ("_check_layers", "_check_xla", "_check_repeatable"):
        monkeypatch.setattr(training, name, broken)
    found, texts = levels(training.examine, DEVICES)
    assert [level for level, _ in found] == [OK, FAIL, FAIL, FAIL]
    assert texts[1] == "UnimplementedError: No kernel"


def test_a_failure_is_the_exit_status():
    code = (
        "from trainers.checkup import copies, training; "
        "copies.arrives = lambda *_: False; "
        "training.examine = lambda *_: None; "
        "from trainers import doctor; doctor.errors.run(doctor.main)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "--devices=CPU:0,CPU:1"], cwd=ROOT,
        capture_output=True, text=True,
    )
    assert done.returncode == 1
    assert "FAIL  CPU:0-CPU:1" in done.stdout
    last = done.stderr.splitlines()[-1]
    assert last.endswith("1 of 4 examinations failed: CPU:0-CPU:1")


def test_numpy_is_the_algorithm(monkeypatch):
    """The reference equals the other one, of the library's tests."""
    monkeypatch.setattr(
        plain, "cross_entropy", lambda y, h: tf.reduce_mean((h - y) ** 2)
    )
    keras.utils.set_random_seed(1)
    networks = [
        keras.Sequential([
            keras.Input((5,), dtype="float64"),
            *(keras.layers.Dense(5, "tanh", dtype="float64")
              for _ in range(2)),
        ])
        for _ in range(3)
    ]
    modules = [
        [[v.numpy().copy() for v in layer.weights] for layer in network.layers]
        for network in networks
    ]
    before = copy.deepcopy(modules)
    x, y = np.random.default_rng(0).normal(size=(2, 8, 4, 5))
    reference.features_replay(modules, [*zip(x, y)], 0.2, 0.9)
    others = [plain.PlainModule(network.layers) for network in networks]
    plain.features_replay(
        others, lambda: plain.SGD(0.9, nesterov=False), lambda t: 0.2,
        [*zip(x, y)],
    )
    for module, other, old in zip(modules, others, before):
        for layer, exact, start in zip(module, other.weights, old):
            for weight, expected, initial in zip(layer, exact, start):
                np.testing.assert_allclose(weight, expected, atol=1e-13)
                assert np.abs(weight - initial).max() > 1e-3


def test_changed_data_are_noticed(monkeypatch):
    assert copies.arrives(*DEVICES)
    # One value is lost on the way.
    monkeypatch.setattr(
        copies.np, "array_equal", lambda a, b: np.all(a[1:] == b[:-1])
    )
    assert not copies.arrives(*DEVICES)


class Driver:
    """Stands in for NVIDIA's driver library."""

    def __init__(self, version):
        self._version = version

    def cuDriverGetVersion(self, pointer):
        pointer._obj.value = self._version


@contextlib.contextmanager
def machine(cards, gpus, libraries, wheels, version=12_040, variables=None):
    """What a machine with GPUs would look like to the examination."""
    def load(name):
        if name not in libraries:
            raise OSError(f"{name}: cannot open shared object file")
        return Driver(version)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(software.ctypes, "CDLL", load)
        patch.setattr(software, "_cards", lambda: ["/dev/nvidia0"] * cards)
        patch.setattr(software.sysconfig, "get_path", lambda name: str(wheels))
        patch.setattr(
            tf.config, "list_physical_devices", lambda kind: [
                types.SimpleNamespace(name=f"/physical_device:GPU:{i}")
                for i in range(gpus)
            ],
        )
        patch.setattr(
            tf.config.experimental, "get_device_details",
            lambda gpu: {
                "device_name": "NVIDIA H100", "compute_capability": (9, 0)
            },
        )
        patch.setattr(tf.sysconfig, "get_build_info", lambda: {
            "is_cuda_build": True, "cuda_version": "12.5.1",
            "cudnn_version": "9",
            "cuda_compute_capabilities": ["sm_80", "compute_90"],
        })
        patch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        for name, value in (variables or {}).items():
            patch.setenv(name, value)
        yield


ALL = [name for names in software._LIBRARIES.values() for name in names]


def test_a_gpu_that_works(tmp_path):
    with machine(1, 1, ["libcuda.so.1", *ALL], tmp_path):
        found, texts = levels(software.examine)
    assert {level for level, _ in found} == {OK, NOTE}
    assert (OK, "GPU:0") in found
    assert (NOTE, "Precision") in found
    assert sum(subject == "Library" for _, subject in found) == len(ALL)
    assert "supports CUDA up to 12.4" in texts


@pytest.mark.parametrize("missing", ALL)
def test_a_library_that_is_missing(tmp_path, missing):
    """Each in one line, with what to install."""
    with machine(1, 0, {"libcuda.so.1", *ALL} - {missing}, tmp_path):
        found, texts = levels(software.examine)
    (text,) = [text for text in texts if missing in text]
    assert "pip install 'fr-keras[gpu]'" in text and "nvidia-" in text
    expected = NOTE if missing in software._ONLY_FOR else FAIL
    assert (expected, "Library") in found
    assert (FAIL, "GPU") in found  # TensorFlow sees none.


def test_libraries_in_wheels(tmp_path):
    """Where pip puts them; the loader of the system does not look there."""
    folder = tmp_path / "nvidia" / "cudnn" / "lib"
    folder.mkdir(parents=True)
    (folder / "libcudnn.so.9").touch()
    with machine(1, 1, ["libcuda.so.1"], tmp_path):
        _, texts = levels(software.examine)
    assert any("libcudnn.so.9: wheel" in text for text in texts)
    assert any("libcufft.so.11 is missing" in text for text in texts)


def test_no_driver(tmp_path):
    with machine(1, 0, ALL, tmp_path):
        found, texts = levels(software.examine)
    assert (FAIL, "Driver") in found
    assert any("--gpus=all" in text for text in texts)


def test_an_old_driver(tmp_path):
    with machine(1, 0, ["libcuda.so.1", *ALL], tmp_path, version=11_040):
        found, texts = levels(software.examine)
    assert (FAIL, "Driver") in found
    assert any("Received: CUDA 11.4" in text for text in texts)


def test_gpus_that_are_hidden(tmp_path):
    with machine(
        2, 1, ["libcuda.so.1", *ALL], tmp_path,
        variables={"CUDA_VISIBLE_DEVICES": "1"},
    ):
        found, texts = levels(software.examine)
    assert FAIL not in {level for level, _ in found}
    assert any("CUDA_VISIBLE_DEVICES='1' hides" in text for text in texts)


@pytest.mark.parametrize("variable", [None, "false"])
def test_gpu_memory_grows(monkeypatch, variable):
    """Unless the user says otherwise."""
    monkeypatch.setenv("TF_FORCE_GPU_ALLOW_GROWTH", variable or "")
    if not variable:
        monkeypatch.delenv("TF_FORCE_GPU_ALLOW_GROWTH")
    allocators.set_up()
    assert os.environ["TF_FORCE_GPU_ALLOW_GROWTH"] == (variable or "true")


@pytest.mark.parametrize("gpus, expected", [(0, 2), (1, 2), (3, 3)])
def test_devices_of_modules(monkeypatch, gpus, expected):
    """As many GPUs; or logical devices of the only one; or of the CPU."""
    told = []
    monkeypatch.setattr(
        tf.config, "list_physical_devices", lambda kind: list(range(gpus))
    )
    for name in ("set_visible_devices", "set_logical_device_configuration"):
        monkeypatch.setattr(
            tf.config, name,
            lambda *args, name=name: told.append((name, *args)),
        )
    monkeypatch.setattr(
        logical_devices.fr_keras, "use_cpu_devices",
        lambda count: [f"CPU:{i}" for i in range(count)],
    )
    monkeypatch.setenv("TF_FORCE_GPU_ALLOW_GROWTH", "true")
    names = logical_devices.start(expected, 100.0)
    kind = "GPU" if gpus else "CPU"
    assert names == [f"{kind}:{i}" for i in range(expected)]
    if gpus == 1:
        assert told[0] == ("set_visible_devices", 0, "GPU")
        (_, gpu, configurations) = told[1]
        assert gpu == 0
        assert [c.memory_limit for c in configurations] == [100.0] * 2
    else:
        assert told == []


def test_the_memory_of_a_gpu(monkeypatch, tmp_path):
    """It is what nvidia-smi reports, or what is missing is said."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(errors.UsageError, match="nvidia-smi reports; install"):
        logical_devices._total_megabytes()
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 81559\necho 81559\n")
    program.chmod(0o755)
    assert logical_devices._total_megabytes() == 81559
    program.write_text("#!/bin/sh\necho No devices were found\nexit 6\n")
    with pytest.raises(errors.UsageError, match="Received: 'No devices were"):
        logical_devices._total_megabytes()
