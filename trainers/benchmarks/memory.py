"""Memory: the most that a training step has allocated, and what it is."""

import dataclasses
import statistics

import tensorflow as tf

from fr_keras.profiling.measurement import activation_bytes, num_bytes
from trainers.benchmarks import processes
from trainers.benchmarks.job import start

_STEPS = 10


@dataclasses.dataclass
class Memory:
    """Bytes of all devices together.

    Attributes:
        parameters: int, weights, moving averages and metrics.
        slots: int, the optimizers' variables.
        kept: int, from one iteration to the next: replay queues and error
            gradients.
        peak: int, the most that is allocated during an iteration.
        counted: int, what theory counts: the above and the activations that
            have to be there at once, all modules at work at the same time.
    """

    parameters: int
    slots: int
    kept: int
    peak: int
    counted: int

    @property
    def rest(self):
        """Activations, gradients and what kernels need for themselves."""
        return self.peak - self.parameters - self.slots - self.kept


def measure(job, algorithms, numbers_of_modules, show):
    """Measures memory, every case in a process of its own.

    Args:
        job: `benchmarks.job.Job`; iterations come one at a time.
        algorithms: list of names of `fr_keras.ALGORITHMS`.
        numbers_of_modules: list of numbers K.
        show: callable, called with a line on how far it is.

    Returns:
        Dict from `(algorithm, K)` to `Memory`.
    """
    found = {}
    for algorithm in algorithms:
        for num_modules in numbers_of_modules:
            show(f"{algorithm}, K={num_modules}")
            process = processes.Process(
                None, prepare, job, algorithm, num_modules
            )
            found[algorithm, num_modules] = process()
            process.close()
    return found


def prepare(job, algorithm, num_modules):
    """Runs in a process of its own.

    Args:
        job: `benchmarks.job.Job`.
        algorithm: str.
        num_modules: int, K.

    Returns:
        Callable without arguments: `Memory`.
    """
    start(num_devices=num_modules, threads=1, parallel=num_modules)
    check_is_counted()
    model = job.algorithm(algorithm, num_modules)
    job.compile(model)
    x, y = job.batch()

    def run():
        for _ in range(num_modules + 1):
            model.train_on_batch(x, y)
        peaks = []
        for _ in range(_STEPS):
            tf.config.experimental.reset_memory_stats("CPU:0")
            model.train_on_batch(x, y)
            info = tf.config.experimental.get_memory_info("CPU:0")
            peaks.append(info["peak"])
        held = (
            _total(v.value for v in model.variables
                   if not any(v is slot for slot in model.optimizer.variables)),
            _total(v.value for v in model.optimizer.variables),
            _kept(model),
        )
        return Memory(
            *held, statistics.median(peaks), sum(held) + _activations(model, x)
        )

    return run


def check_is_counted():
    """Raises `ValueError` where TensorFlow does not count what it allocates."""
    try:
        tf.config.experimental.get_memory_info("CPU:0")
    except ValueError as error:
        raise ValueError(
            "TensorFlow counts the memory of a CPU only with oneDNN, which "
            "TF_ENABLE_ONEDNN_OPTS=1 in the environment turns on"
        ) from error


def _total(tensors):
    return sum(num_bytes(tensor) for tensor in tensors)


def _kept(model):
    """What an algorithm keeps from one iteration to the next, in bytes."""
    return _total(
        variable.read_value() for queues in model.queues
        for queue in queues for variable in queue.variables
    )


def _activations(model, x):
    """Bytes that the backward passes of an iteration need at the same time."""
    features, total = model.modules_at_work[0].standardize(x), 0
    for module in model.modules_at_work:
        used = module.used(features)
        activations = activation_bytes(module, used)
        if getattr(model, "recompute", False):
            # The inputs of all micro-batches, the activations of one.
            activations = (
                _total(used.tensors) + activations // model.num_microbatches
            )
        total += activations
        made, _, _ = module.forward(used)
        features = module.output(features, made)
    return total
