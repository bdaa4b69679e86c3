"""All copies of a module get the same sum of their gradients."""

import functools

import numpy as np
import pytest
import tensorflow as tf

from fr_keras.replicas import exchange

SHAPES = [(5, 3), (7,), (), (2, 2), (4, 3), (1,)]
DTYPES = ["float32", "float32", "float16", "float32", "float32", "float16"]
UNUSED, SPARSE = 3, 4


class Copy:
    """A copy of a module with variables that keep what it is updated with."""

    def __init__(self, device):
        self.device = device
        with tf.device(device):
            self.trainable_variables = [
                tf.Variable(tf.zeros(shape, dtype))
                for shape, dtype in zip(SHAPES, DTYPES)
            ]

    def update(self, gradients, learning_rate, is_due):
        assert gradients[UNUSED] is None
        for variable, gradient in zip(self.trainable_variables, gradients):
            if gradient is not None:
                variable.assign(gradient)


def numbers(seed):
    rng = np.random.default_rng(seed)
    return [
        rng.normal(size=shape).astype(dtype)
        for shape, dtype in zip(SHAPES, DTYPES)
    ]


def as_gradients(values):
    """Dense ones, one of rows 1 and 3, and none of a variable."""
    tensors = list(map(tf.constant, values))
    tensors[UNUSED] = None
    tensors[SPARSE] = tf.IndexedSlices(
        tensors[SPARSE][:2], tf.constant([3, 1]), tf.constant([4, 3])
    )
    return tensors


def as_sums(all_values):
    """The sums, in the order of the copies; rows 1 and 3 of one of them."""
    sums = [functools.reduce(np.add, each) for each in zip(*all_values)]
    first, second = sums[SPARSE][:2].copy()
    sums[SPARSE][:] = 0
    sums[SPARSE][3], sums[SPARSE][1] = first, second
    return sums


@pytest.mark.parametrize("largest_packed", [0, 16, 2**16])
@pytest.mark.parametrize(
    "kind", [exchange.Slices, exchange.Whole, exchange.Packed]
)
@pytest.mark.parametrize("num_copies", [2, 3, 8])
def test_sums_in_the_order_of_the_copies(
    monkeypatch, num_copies, kind, largest_packed
):
    """Eight copies are more than there are variables."""
    monkeypatch.setattr(exchange, "_LARGEST_PACKED", largest_packed)
    devices = [device.name for device in tf.config.list_logical_devices("CPU")]
    copies = [
        Copy(devices[i % len(devices)]) for i in range(num_copies)
    ]
    of_copies = exchange.Exchange(copies, 0, 1, False, False, kind)
    all_values = [numbers(seed) for seed in range(num_copies)]

    @tf.function
    def update():
        of_copies(list(map(as_gradients, all_values)), 0.1, True)

    update()
    for copy in copies:
        for j, (variable, total) in enumerate(
            zip(copy.trainable_variables, as_sums(all_values))
        ):
            if j != UNUSED:
                np.testing.assert_array_equal(variable.numpy(), total)


def test_small_gradients_are_sent_together():
    """As few tensors as there are dtypes, and each large gradient by itself."""
    copy = Copy("CPU:0")
    packed = exchange.Packed(copy, 2)
    gradients = as_gradients(numbers(0))
    packed.adopt(gradients)
    slices = packed.cut(gradients)
    # The largest first, to the slice with the fewest numbers so far: 15, and
    # 12 + 7 of rows and a vector; scalars and vectors of half precision apart.
    assert [[t.shape.num_elements() for t in part] for part in slices] == [
        [15, 2], [19],
    ]


@pytest.mark.parametrize(
    ("first", "second", "kind"),
    [
        ("task:0/device:CPU:0", "task:0/device:CPU:1", exchange.Whole),
        ("task:0/device:CPU:0", "task:1/device:CPU:0", exchange.Packed),
        ("task:0/device:GPU:0", "task:0/device:GPU:1", exchange.Slices),
        ("task:0/device:CPU:0", "task:0/device:GPU:0", exchange.Slices),
    ],
)
def test_only_on_cpus_gradients_stay_whole(first, second, kind):
    prefix = "/job:worker/replica:0/"
    assert exchange.kind_for([prefix + first, prefix + second]) is kind
