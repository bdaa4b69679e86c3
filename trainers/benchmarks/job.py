"""The workload of all contestants, and the cores they use."""

import dataclasses

import keras
import numpy as np
import tensorflow as tf

import fr_keras
from trainers.command import allocators

_NUM_CLASSES = 10
_IMAGE_SHAPE = (32, 32, 3)


@dataclasses.dataclass(frozen=True)
class Job:
    """The workload of all contestants.

    Attributes:
        depth: int, of the ResNet.
        batch_size: int.
        num_steps: int, iterations in a round.
        steps_per_execution: int, of our algorithms.
        costs: dict, the costs of layers, as for `fr_keras.partition`, or
            `None` for an estimate.
    """

    depth: int
    batch_size: int
    num_steps: int
    steps_per_execution: int
    costs: dict | None = None

    def algorithm(self, name, num_modules, **options):
        return fr_keras.ALGORITHMS[name](
            self.network(), num_modules, costs=self.costs, **options
        )

    def network(self):
        keras.utils.set_random_seed(0)
        return fr_keras.models.resnet(self.depth, _NUM_CLASSES, _IMAGE_SHAPE)

    def batch(self):
        """The same random batch each time, so that reading takes no time."""
        rng = np.random.default_rng(0)
        shape = (self.batch_size, *_IMAGE_SHAPE)
        return (
            tf.constant(rng.normal(size=shape).astype("float32")),
            tf.constant(rng.integers(0, _NUM_CLASSES, self.batch_size)),
        )

    def compile(self, model, optimizer=None, **options):
        model.compile(
            optimizer or keras.optimizers.SGD(
                0.01, momentum=0.9, nesterov=True, weight_decay=5e-4
            ),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
            **options,
        )


def start(num_devices, threads, parallel):
    """Configures TensorFlow in its own process.

    Args:
        num_devices: int, logical CPU devices.
        threads: int, threads per operation.
        parallel: int, operations that run at the same time.
    """
    allocators.set_up()
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0],
        [tf.config.LogicalDeviceConfiguration()] * num_devices,
    )
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(parallel)
