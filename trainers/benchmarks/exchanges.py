"""Ways to add the gradients of the copies of a module."""

import time

import tensorflow as tf

import fr_keras
from fr_keras.engine import placement
from fr_keras.replicas.exchange import Exchange
from trainers.benchmarks import processes, turns
from trainers.benchmarks.job import start
from trainers.command import cores
from trainers.workers import local_workers

# Numbers in the gradients: of ResNet-20 and ResNet-18, and one in between.
SIZES = (269_722, 4_000_000, 11_689_512)
HERE, THERE = "one process", "workers"


def measure(num_copies, num_exchanges, rounds, show):
    """Measures all ways, in one process and on workers, a core each.

    Args:
        num_copies: int, r, at most the number of cores.
        num_exchanges: int, how many follow each other in one measurement.
        rounds: int.
        show: as for `turns.take`.

    Returns:
        Dict from tuples `(place, size)`, `HERE` or `THERE` and a number of
        gradients, to dicts from ways to tuples `(seconds, are_equal)`:
        `Samples` per exchange, and whether all copies got the same bits.
    """
    each = {*cores.available()[:num_copies]}
    found = {}
    for size in SIZES:
        show(f"{size:,} numbers in one process")
        found[HERE, size] = _of_process(
            rounds, each, num_copies, size, num_exchanges
        )
    for size in SIZES:
        show(f"{size:,} numbers on workers")
        with local_workers.started(num_copies) as workers:
            found[THERE, size] = _of_process(
                rounds, each, num_copies, size, num_exchanges,
                [worker.address for worker in workers],
            )
    return found


def _of_process(rounds, each, *args):
    process = processes.Process(each, prepare, *args)
    try:
        ways, are_equal = process()
        samples = turns.take({"all": process}, rounds + 1)["all"]
    finally:
        process.close()
    return {
        # The first round traces.
        way: (turns.Samples(of_way.values[1:]), of_way_equal)
        for way, of_way, of_way_equal in zip(ways, samples, are_equal)
    }


# The functions below run in their own processes.


def prepare(num_copies, size, num_exchanges, addresses=None):
    """The copies of a module that does nothing but exchange gradients.

    Args:
        num_copies: int, r.
        size: int, numbers in the gradients.
        num_exchanges: int.
        addresses: list of str, of workers, or `None` for devices of this
            process.

    Returns:
        Callable without arguments. The first call returns the names of the
        ways, and which of them give all copies the same bits; the others,
        seconds per exchange of each way.
    """
    if addresses is None:
        start(num_copies, threads=1, parallel=4 * num_copies)
    else:
        fr_keras.cluster.connect(addresses)
    devices = placement.assign_devices(num_copies)
    copies = [_Copy(device, size, seed) for seed, device in enumerate(devices)]
    ways = {
        "slices": _Slices(copies), "one copy adds": _OneAdds(copies),
        "ring": _Collective(copies, "ring"),
    }
    if "GPU" in devices[0]:
        ways["NCCL"] = _Collective(copies, "nccl")
    functions = {name: tf.function(way) for name, way in ways.items()}
    equal = []

    def run():
        if not equal:
            for exchange in functions.values():
                exchange()
                equal.append(_are_equal(copies))
            return list(ways), equal
        return [
            _seconds(exchange, copies, num_exchanges)
            for exchange in functions.values()
        ]

    return run


def _seconds(exchange, copies, count):
    """Seconds per exchange."""
    begun = time.perf_counter()
    for _ in range(count):
        exchange()
    for copy in copies:  # Wait for all.
        copy.sum[0].numpy()
    return (time.perf_counter() - begun) / count


def _are_equal(copies):
    first, *others = (copy.sum.numpy().tobytes() for copy in copies)
    return all(other == first for other in others)


class _Copy:
    """A copy of a module whose update only keeps the sum of the gradients.

    Args:
        device: full device name.
        size: int.
        seed: int.
    """

    def __init__(self, device, size, seed):
        self.device = device
        with tf.device(device):
            self.gradients = tf.Variable(
                tf.random.stateless_normal([size], [seed, 0])
            )
            self.sum = tf.Variable(tf.zeros([size]))
        self.trainable_variables = [self.sum]

    def update(self, gradients, learning_rate, is_due):
        del learning_rate, is_due
        self.sum.assign(gradients[0])


class _Slices:
    """The exchange of the library."""

    def __init__(self, copies):
        self._copies = copies
        self._exchange = Exchange(
            copies, number=0, stride=1, run_eagerly=False, jit_compile=False
        )

    def __call__(self):
        gradients = []
        for copy in self._copies:
            with tf.device(copy.device):
                gradients.append([copy.gradients.read_value()])
        self._exchange(gradients, 0.1, True)


class _OneAdds:
    """The first copy adds all gradients, and sends the sum to all."""

    def __init__(self, copies):
        self._copies = copies

    def __call__(self):
        with tf.device(self._copies[0].device):
            total = tf.add_n(
                [copy.gradients.read_value() for copy in self._copies]
            )
        for copy in self._copies:
            with tf.device(copy.device):
                copy.update([total], 0.1, True)


class _Collective:
    """TensorFlow's collective operation.

    Without tokens, a function would run the operations one after the other,
    and the first would wait for the second forever.
    """

    def __init__(self, copies, hint):
        self._copies = copies
        self._hint = hint
        self._tokens = []
        for copy in copies:
            with tf.device(copy.device):
                self._tokens.append(tf.Variable(0.0))

    def __call__(self):
        sums = []
        for copy, token in zip(self._copies, self._tokens):
            with tf.device(copy.device):
                sums.append(tf.raw_ops.CollectiveReduceV2(
                    input=copy.gradients.read_value(),
                    group_size=len(self._copies), group_key=1, instance_key=1,
                    ordering_token=[token.handle], merge_op="Add",
                    final_op="Id", communication_hint=self._hint,
                    timeout_seconds=60,
                ))
        for copy, total in zip(self._copies, sums):
            with tf.device(copy.device):
                copy.update([total], 0.1, True)
