"""Modules that only sleep, so that only the schedule matters."""

import collections
import functools
import statistics
import threading
import time

import keras
import numpy as np
import tensorflow as tf

from fr_keras.engine import placement
from fr_keras.planning.simulation import KINDS, Event
from trainers.benchmarks import batches

# Of the work in this process.
_rows: list = []
_busy: dict = collections.defaultdict(threading.Lock)
# The devices of this program, which are numbered for the workers.
_devices: dict = {}


def sleep(x, after, module, kind, seconds):
    """Returns a tensor after a delay, and notes the work.

    Each copy of a module does one thing at a time.

    Args:
        x: tensor.
        after: list of other tensors to wait for.
        module: int, the number of the module, from 0.
        kind: str, as for `Event`.
        seconds: float, for the whole operation, when nothing else runs.

    Returns:
        Tensor, `x`.
    """
    device = tf.identity(x).device
    number = _devices.setdefault((module, device), len(_devices))
    if seconds:
        with tf.init_scope():
            seconds = max(0.0, seconds - overhead())
    return _operation(x, after, [number, module, KINDS.index(kind), seconds])


def _operation(x, after, of_work):
    (shape,) = tf.raw_ops.PyFuncStateless(
        # x waits for its shape, so that it is not copied. (Control edges from
        # stateless operations would be removed.)
        input=[
            tf.shape(x), tf.constant(of_work, tf.float64),
            *(tf.reshape(tensor, [-1])[:1] for tensor in [x, *after]),
        ],
        # (Stateful ones would wait for each other.)
        token=functions()[0], Tout=[tf.int32],
    )
    return tf.ensure_shape(tf.reshape(x, shape), x.shape)


def taken(devices):
    """Returns the work since the last time.

    Args:
        devices: full names of the devices of modules.

    Returns:
        List of `simulation.Event`, in the order of their ends.
    """
    found = []
    for host in {placement.host(device) for device in devices}:
        with tf.device(host):
            (rows,) = tf.raw_ops.PyFunc(
                input=[], token=functions()[1], Tout=[tf.float64]
            )
        found += [
            Event(int(module), KINDS[int(kind)], float(start), float(stop))
            for module, kind, start, stop in rows.numpy()
        ]
    return sorted(found, key=lambda event: event.stop)


@functools.cache
def functions():
    """Registers the functions that operations call in their process.

    A worker must register them before any others: it then knows them by the
    same names as this process, which may not register others before either.

    Returns:
        List of two str, the names of the functions.
    """
    with tf.Graph().as_default() as graph:
        tf.numpy_function(_work, [], tf.int32)
        tf.numpy_function(_take, [], tf.float64)
    return [
        op.get_attr("token").decode() for op in graph.get_operations()
        if op.type == "PyFunc"
    ]


def _work(shape, of_work, *after):
    del after
    number, module, kind, seconds = of_work
    with _busy[number]:
        start = time.time()  # Comparable to that of other processes.
        if seconds:
            time.sleep(seconds)
        _rows.append((module, kind, start, time.time()))
    return shape


@functools.cache
def overhead():
    """Seconds that an operation takes beyond its sleep, when nothing else runs.

    Sleep ends late, and Python functions are slow to call: some 0.2 ms, which
    no other operation takes. Without them, what a benchmark finds beyond the
    simulation is what scheduling costs.

    Returns:
        float.
    """
    number, length, turns = 50, 1e-3, []
    # (Never the number of a device.)
    of_work = [-1, 0, 0, length]

    @tf.function(input_signature=[tf.TensorSpec([None, 1])])
    def one_after_the_other(x):
        for _ in range(number):
            x = _operation(x, [], of_work)
        return x

    with tf.device("CPU:0"):
        one = tf.ones([1, 1])
        for _ in range(5):
            start = time.perf_counter()
            one_after_the_other(one).numpy()
            turns.append((time.perf_counter() - start) / number)
    _rows.clear()
    return statistics.median(turns) - length


def _take():
    rows = list(_rows)
    _rows.clear()
    return np.array(rows, "float64").reshape((-1, 4))


class SleepingLayer(keras.layers.Layer):
    """Passes on its input, and sleeps.

    Args:
        module: int, the number of the module, from 0.
        times: `fr_keras.profiling.module_times.ModuleTimes`.
        splits: bool, whether the gradient of the weight takes half of the
            backward pass, apart from that of the input.
        width: int, numbers per example that are passed on, or `None` for as
            many as there are.
    """

    def __init__(
        self, module, times, splits=False, width=None, **kwargs
    ):
        super().__init__(**kwargs)
        self.splits = splits
        self.width = width
        self.module = module
        self.times = times

    def get_config(self):
        return {
            **super().get_config(), "module": self.module,
            "times": self.times, "splits": self.splits, "width": self.width,
        }

    def build(self, input_shape):
        # A constraint is the last part of an update.
        self.weight = self.add_weight(
            shape=(), initializer="ones",
            constraint=lambda weight: self._sleep(weight, "update"),
        )

    def _sleep(self, x, kind, after=()):
        # The first module needs no gradient of its input, but its layers, if it
        # had several, would need those between them.
        half = self.times.backward / 2 * self.splits * (self.module > 0)
        seconds = {
            "play": self.times.forward,
            "replay": self.times.forward,
            "backward": self.times.backward - half,
            "weights": half or self.times.backward,
            "update": self.times.update,
        }[kind]
        return sleep(x, after, self.module, kind, seconds)

    def call(self, x):
        # Functions are named after their work.
        function = tf.compat.v1.get_default_graph().name
        again = "replay" in function or "backward" in function
        kind = "replay" if again else "play"

        @tf.custom_gradient
        def pass_on(x, weight):
            del weight
            x = self._sleep(x, kind)

            def gradient(dy):
                # Depends on the forward pass, like any backward pass.
                dx = of_weight = self._sleep(dy, "backward", [x])
                if self.splits:
                    of_weight = self._sleep(dy, "weights", [x])
                return (
                    _resized(dx, x.shape[-1]), tf.reshape(of_weight, [-1])[0]
                )

            return _resized(x, self.width or x.shape[-1]), gradient

        return pass_on(x, tf.convert_to_tensor(self.weight))


def _resized(x, width):
    """Numbers of any value, as many per example; `x` itself if possible."""
    if x.shape[-1] == width:
        return x
    return tf.broadcast_to(x[:, :1], [tf.shape(x)[0], width])


def prepare(
    algorithm, times, steps_per_execution, num_steps, batch_size=1,
    splits=False, width=1,
):
    """Prepares sleeping modules for training.

    Args:
        algorithm: callable that makes an algorithm of a list of modules.
        times: list of K `fr_keras.profiling.module_times.ModuleTimes`.
        steps_per_execution: int.
        num_steps: int, iterations.
        batch_size: int.
        splits: as for `SleepingLayer`.
        width: int, numbers per example that cross each boundary.

    Returns:
        Callable without arguments that runs `num_steps` iterations of `fit`
        and returns a list of their `Event`s, in the order of their ends.
        Everything is traced, and the modules are past their warm-up.
    """
    model = algorithm([
        keras.Sequential([
            keras.Input((width if k else 1,)),
            SleepingLayer(
                k, mine, splits, width if k < len(times) - 1 else 1
            ),
        ])
        for k, mine in enumerate(times)
    ])
    model.compile(
        # With momentum, so that there is something to predict.
        keras.optimizers.SGD(0.01, momentum=0.9), "mse",
        steps_per_execution=steps_per_execution,
    )
    devices = [
        module.device for pipeline in model.pipelines
        for module in pipeline.modules
    ]

    def fit(num_steps):
        with tf.device(placement.host(devices[0])):
            batch = tf.ones([batch_size, 1])
            data = batches.repeated((batch, batch)).take(num_steps)
        taken(devices)
        model.fit(data, shuffle=False, verbose=0)
        return taken(devices)

    warmup = -(-len(times) // steps_per_execution) * steps_per_execution
    fit(warmup)
    fit(num_steps)  # Traces the remainder.
    return lambda: fit(num_steps)
