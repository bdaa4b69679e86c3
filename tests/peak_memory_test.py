"""The peaks of memory that runs report."""

import os
import subprocess
import sys

import pytest

PROGRAM = """
import tensorflow as tf
from trainers.command import allocators, peak_memory

allocators.set_up()
DEVICES = ["/job:localhost/replica:0/task:0/device:CPU:0"]
kept = [tf.zeros([1000]) for _ in range(50)]
peak_memory.reset(DEVICES)
large = [tf.random.stateless_normal([100_000], [0, 0]) for _ in range(2)]
small = [tf.random.stateless_normal([1000], [0, 0]) for _ in range(100)]
del large, small
print(peak_memory.read(DEVICES))
assert peak_memory.read(["CPU:0", "CPU:0"]) == peak_memory.read(DEVICES)
each = peak_memory.read_each(["CPU:0", "/CPU:0", *DEVICES])
assert each is None or [*each] == ["CPU:0"]
print(peak_memory.read(["/job:worker/replica:0/task:0/device:CPU:0"]))
"""


@pytest.mark.parametrize("onednn", ["0", "1"])
def test_small_tensors_count(onednn):
    """With oneDNN, those below 256 KiB did not; without, none did."""
    local, remote = _printed(TF_ENABLE_ONEDNN_OPTS=onednn)
    # (Allocators round up, and operations need some memory of their own.)
    assert 1_400_000 <= int(local) < 2 * 1_400_000
    assert remote == "None"


def test_what_is_not_counted_is_not_reported():
    local, _ = _printed(
        TF_ENABLE_ONEDNN_OPTS="1", TF_CPU_ALLOCATOR_USE_BFC="false"
    )
    assert local == "None"


def _printed(**environment):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], check=True, text=True,
        capture_output=True, env={**os.environ, **environment},
    )
    return done.stdout.split()
