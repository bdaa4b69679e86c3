"""Memory: the peak allocation of a training step, and its parts."""

import dataclasses
import os
import statistics

import fr_keras
from fr_keras import schedules
from fr_keras.profiling.measurement import activation_bytes, num_bytes
from trainers.benchmarks import processes
from trainers.benchmarks.job import start
from trainers.command import peak_memory

_STEPS = 10
# Micro-batches, of the methods that have them.
_MICROBATCHES = 8


@dataclasses.dataclass
class Memory:
    """Bytes of all devices together.

    Attributes:
        parameters: int, weights, moving averages and metrics.
        slots: int, the optimizers' variables.
        kept: int, kept between iterations: replay queues and error gradients.
        peak: int, the most allocated during an iteration.
        counted: int, in theory: parameters, slots, kept, and the activations
            needed at once when all modules work at the same time.
    """

    parameters: int
    slots: int
    kept: int
    peak: int
    counted: int

    @property
    def rest(self):
        """Activations, gradients and workspaces of kernels."""
        return self.peak - self.parameters - self.slots - self.kept


def measure(job, algorithms, numbers_of_modules, show):
    """Measures memory, each case in its own process.

    Args:
        job: `benchmarks.job.Job`; calls have one iteration.
        algorithms: list of names of `fr_keras.ALGORITHMS`.
        numbers_of_modules: list of numbers K.
        show: callable that receives a line of progress.

    Returns:
        Dict from `(algorithm, K)` to `Memory`; of pipelines, the name has the
        schedule.
    """
    found = {}
    for algorithm in algorithms:
        for name, options in _variants(algorithm).items():
            for num_modules in numbers_of_modules:
                show(f"{name}, K={num_modules}")
                found[name, num_modules] = processes.once(
                    None, prepare, job, algorithm, num_modules, options
                )
    return found


def _variants(algorithm):
    """Dict from what a row is called to arguments of an algorithm."""
    parts = {"num_microbatches": _MICROBATCHES}
    if algorithm == "gpipe":
        return {f"gpipe, {_MICROBATCHES} micro-batches, recomputing": parts}
    if algorithm == "features_replay":
        return {
            algorithm: {}, f"{algorithm}, {_MICROBATCHES} micro-batches": parts
        }
    if algorithm != "pipeline":
        return {algorithm: {}}
    return {
        f"{schedule}, {_MICROBATCHES} micro-batches": {
            **parts, "schedule": schedule
        }
        for schedule in schedules.SCHEDULES
        if schedule != schedules.INTERLEAVED
    }


def prepare(job, algorithm, num_modules, options):
    """Runs in its own process.

    Args:
        job: `benchmarks.job.Job`.
        algorithm: str.
        num_modules: int, K.
        options: dict, further arguments of the algorithm.

    Returns:
        Callable without arguments that returns `Memory`.
    """
    start(num_devices=num_modules, threads=1, parallel=num_modules)
    model = job.algorithm(algorithm, num_modules, **options)
    job.compile(model)
    x, y = job.batch()
    devices = [module.device for module in model.all_modules]
    if peak_memory.read(devices) is None:
        raise ValueError(
            "TensorFlow must count the memory of the devices; of a CPU, it "
            "does with TF_CPU_ALLOCATOR_USE_BFC=true in the environment. "
            "Received: "
            f"{os.environ.get('TF_CPU_ALLOCATOR_USE_BFC')!r}"
        )

    def run():
        for _ in range(num_modules + 1):
            model.train_on_batch(x, y)
        peaks = []
        for _ in range(_STEPS):
            peak_memory.reset(devices)
            model.train_on_batch(x, y)
            peaks.append(peak_memory.read(devices))
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


def _total(tensors):
    return sum(num_bytes(tensor) for tensor in tensors)


def _kept(model):
    """Bytes that an algorithm keeps between iterations."""
    return _total(
        variable.read_value() for queues in model.pipeline.queues
        for queue in queues for variable in queue.variables
    )


def _activations(model, x):
    """Bytes that the backward passes of an iteration need at once."""
    features, total = model.pipeline.modules[0].standardize(x), 0
    modules = model.pipeline.modules
    num_microbatches = getattr(model, "num_microbatches", 1)
    if isinstance(model, fr_keras.Pipeline):
        in_flight = schedules.in_flight(schedules.order(
            model.schedule, len(modules), num_microbatches
        ))
    for k, module in enumerate(modules):
        used = module.used(features)
        activations = activation_bytes(module, used) // num_microbatches
        if isinstance(model, fr_keras.Pipeline):
            if model.recompute:
                # The inputs of all micro-batches, the activations of one.
                activations += _total(used.tensors)
            else:
                activations *= in_flight[k]
        total += activations
        made, _, _ = module.forward(used)
        features = module.output(features, made)
    return total
