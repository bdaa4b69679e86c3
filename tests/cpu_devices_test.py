"""Logical CPU devices, and what happens without them."""

import subprocess
import sys
import warnings

import keras
import pytest

import fr_keras
from tests.command_line import ROOT


def python(program):
    """Runs a program in a process whose TensorFlow has not begun."""
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", program],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )
    return done.stdout, done.stderr.strip().rpartition("\n")[2]


NET = (
    "import fr_keras, keras\n"
    "def net():\n"
    "    return keras.Sequential([keras.Input((3,))] + [\n"
    "        keras.layers.Dense(3) for _ in range(4)])\n"
)


def test_a_device_for_each_module():
    out, error = python(
        NET + "print(fr_keras.use_cpu_devices(3))\n"
        "model = fr_keras.FeaturesReplay(net())\n"
        "print([d[-5:] for d in model.devices])\n"
        "print(fr_keras.use_cpu_devices(3))"
    )
    assert out.splitlines() == ["['CPU:0', 'CPU:1', 'CPU:2']"] * 3, error


def test_modules_that_share_a_device_are_reported():
    _, error = python(NET + "fr_keras.FeaturesReplay(net(), 3)")
    assert "3 modules share CPU:0" in error
    assert "use_cpu_devices(3)" in error


def test_who_names_devices_shares_them_on_purpose():
    network = keras.Sequential(
        [keras.Input((3,)), keras.layers.Dense(3), keras.layers.Dense(3)]
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fr_keras.FeaturesReplay(network, 2, devices=["CPU:1"])


def test_too_late():
    with pytest.raises(RuntimeError, match="8 CPU.*Received: count=3$"):
        fr_keras.use_cpu_devices(3)
    assert len(fr_keras.use_cpu_devices(8)) == 8


@pytest.mark.parametrize("count", [0, -1, 2.0, True, "4"])
def test_no_number_of_devices(count):
    with pytest.raises(ValueError, match=r"at least 1. Received: count="):
        fr_keras.use_cpu_devices(count)
