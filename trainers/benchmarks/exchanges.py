"""Ways to add the gradients of the copies of a module."""

import time

import tensorflow as tf

import fr_keras
from fr_keras.engine import placement
from fr_keras.replicas import exchange
from trainers.benchmarks import processes, turns
from trainers.benchmarks.job import start
from trainers.benchmarks.processes import HERE, THERE
from trainers.command import cores
from trainers.workers import local_workers

# Numbers in the gradients: of ResNet-20 and ResNet-18, and one in between, as
# those of so many variables.
SIZES = (269_722, 4_000_000, 11_689_512)
_NUM_VARIABLES = 20


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
        "slices": _Library(copies, exchange.Slices),
        "whole gradients": _Library(copies, exchange.Whole),
        "whole, small ones packed": _Library(copies, exchange.Packed),
        "one copy adds": _OneAdds(copies),
        "ring": _Collective(copies, "ring"),
    }
    if "GPU" in devices[0]:
        ways["NCCL"] = _Collective(copies, "nccl")
    functions = {name: tf.function(way) for name, way in ways.items()}
    equal = []

    def run():
        if not equal:
            for add in functions.values():
                add()
                equal.append(_are_equal(copies))
            return list(ways), equal
        return [
            _seconds(add, copies, num_exchanges) for add in functions.values()
        ]

    return run


def _seconds(add, copies, count):
    """Seconds per exchange."""
    begun = time.perf_counter()
    for _ in range(count):
        add()
    for copy in copies:  # Wait for all.
        copy.sums[-1].numpy()
    return (time.perf_counter() - begun) / count


def _are_equal(copies):
    first, *others = (
        [total.numpy().tobytes() for total in copy.sums] for copy in copies
    )
    return all(other == first for other in others)


class _Copy:
    """A copy of a module whose update only keeps the sums of the gradients.

    Args:
        device: full device name.
        size: int.
        seed: int.
    """

    def __init__(self, device, size, seed):
        self.device = device
        with tf.device(device):
            self._gradients = [
                tf.Variable(tf.random.stateless_normal([of_one], [seed, j]))
                for j, of_one in enumerate(_sizes(size))
            ]
            self.sums = [tf.Variable(tf.zeros([n])) for n in _sizes(size)]
        self.trainable_variables = self.sums

    def gradients(self):
        with tf.device(self.device):
            return [gradient.read_value() for gradient in self._gradients]

    def update(self, gradients, learning_rate, is_due):
        del learning_rate, is_due
        for total, gradient in zip(self.sums, gradients, strict=True):
            total.assign(gradient)


def _sizes(size):
    smaller, larger = divmod(size, _NUM_VARIABLES)
    return [smaller + (j < larger) for j in range(_NUM_VARIABLES)]


class _Library:
    """The exchange of the library.

    Args:
        copies: list of `_Copy`.
        kind: class of slices.
    """

    def __init__(self, copies, kind):
        self._copies = copies
        self._exchange = exchange.Exchange(
            copies, number=0, stride=1, run_eagerly=False, jit_compile=False,
            kind=kind,
        )

    def __call__(self):
        self._exchange(
            [copy.gradients() for copy in self._copies], 0.1, True
        )


class _OneAdds:
    """The first copy adds all gradients, and sends the sums to all."""

    def __init__(self, copies):
        self._copies = copies

    def __call__(self):
        gradients = [copy.gradients() for copy in self._copies]
        with tf.device(self._copies[0].device):
            sums = [tf.add_n(of_one) for of_one in zip(*gradients)]
        for copy in self._copies:
            with tf.device(copy.device):
                copy.update(sums, 0.1, True)


class _Collective:
    """TensorFlow's collective operation, on one buffer for all gradients.

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
                    input=tf.concat(copy.gradients(), 0),
                    group_size=len(self._copies), group_key=1, instance_key=1,
                    ordering_token=[token.handle], merge_op="Add",
                    final_op="Id", communication_hint=self._hint,
                    timeout_seconds=60,
                ))
        for copy, total in zip(self._copies, sums):
            with tf.device(copy.device):
                copy.update(
                    tf.split(total, [t.shape[0] for t in copy.sums]), 0.1, True
                )
