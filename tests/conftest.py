"""Eight logical CPU devices stand in for accelerators in all tests."""

import collections
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


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Marks as slow what is not among the quick cases of a test.

    `@pytest.mark.quick_cases("adam", "muon")` keeps the cases quick whose id
    contains one of the words; the others run with `make slow-test`.
    """
    cases = collections.defaultdict(list)
    for item in items:
        marker = item.get_closest_marker("quick_cases")
        if marker is None:
            continue
        is_quick = any(word in item.callspec.id for word in marker.args)
        cases[item.function].append(is_quick)
        if not is_quick:
            item.add_marker(pytest.mark.slow)
    for function, found in cases.items():
        if len(found) > 1 and not any(found):
            raise pytest.UsageError(
                f"{function.__name__}: a word of `quick_cases` must be in the "
                "id of a case. Received: words that are in none"
            )


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
