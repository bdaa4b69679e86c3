"""Eight logical CPU devices stand in for accelerators in all tests."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# On by itself on some processors only; without it nobody counts the memory.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
os.environ["KERAS_BACKEND"] = "tensorflow"

import keras
import pytest
import tensorflow as tf
from tensorflow.python.framework.config import disable_op_determinism

tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0],
    [tf.config.LogicalDeviceConfiguration()] * 8,
)
# Operations that sleep occupy a thread each.
tf.config.threading.set_inter_op_parallelism_threads(16)


@pytest.fixture(autouse=True)
def seed():
    keras.utils.set_random_seed(1)


@pytest.fixture
def float64():
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy("float32")


@pytest.fixture
def deterministic():
    tf.config.experimental.enable_op_determinism()
    yield
    disable_op_determinism()


@pytest.fixture
def hard_placement():
    tf.config.set_soft_device_placement(False)
    yield
    tf.config.set_soft_device_placement(True)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """A directory for the datasets of the tests of one file."""
    return tmp_path_factory.mktemp("data")
