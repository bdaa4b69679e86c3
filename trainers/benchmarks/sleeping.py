"""Modules that only sleep, so that only the schedule matters."""

import collections
import threading
import time

import keras
import tensorflow as tf

from fr_keras.planning.simulation import Event
from trainers.benchmarks import batches


class Recorder:
    """Records the work of modules, each of which does one thing at a time.

    Copies of a module on other devices work by themselves.

    Attributes:
        events: list of `simulation.Event`, in the order of their ends.
    """

    def __init__(self):
        self.events = []
        self._busy = collections.defaultdict(threading.Lock)

    def sleep(self, x, module, kind, seconds):
        """Returns a tensor after a delay.

        Args:
            x: tensor.
            module: int, the number of the module, from 0.
            kind: str, as for `Event`.
            seconds: float.

        Returns:
            Tensor, `x`.
        """

        busy = self._busy[module, tf.identity(x).device]

        def work(x):
            with busy:
                start = time.perf_counter()
                if seconds:
                    time.sleep(seconds)
                self.events.append(
                    Event(module, kind, start, time.perf_counter())
                )
            return x

        # Stateful Python functions would wait for each other.
        y = tf.numpy_function(work, [x], x.dtype, stateful=False)
        return tf.ensure_shape(y, x.shape)


class SleepingLayer(keras.layers.Layer):
    """Multiplies by its weight, and sleeps.

    Args:
        module: int, the number of the module, from 0.
        times: `fr_keras.profiling.module_times.ModuleTimes`.
        recorder: `Recorder`.
        splits: bool, whether the gradient of the weight takes half of the
            backward pass, apart from that of the input.
    """

    def __init__(self, module, times, recorder, splits=False, **kwargs):
        super().__init__(**kwargs)
        self.splits = splits
        self.module = module
        self.times = times
        self.recorder = recorder

    def get_config(self):
        return {
            **super().get_config(), "module": self.module,
            "times": self.times, "recorder": self.recorder,
            "splits": self.splits,
        }

    def build(self, input_shape):
        # A constraint is the last part of an update.
        self.weight = self.add_weight(
            shape=(), initializer="ones",
            constraint=lambda weight: self._sleep(weight, "update"),
        )

    def _sleep(self, x, kind):
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
        return self.recorder.sleep(x, self.module, kind, seconds)

    def call(self, x):
        # Functions are named after their work.
        function = tf.compat.v1.get_default_graph().name
        again = "replay" in function or "backward" in function
        kind = "replay" if again else "play"

        @tf.custom_gradient
        def multiply(x, weight):
            x = self._sleep(x, kind)

            def gradient(dy):
                # Depends on the forward pass, like any backward pass.
                dx = self._sleep(dy * weight + 0 * x, "backward")
                if not self.splits:
                    return dx, tf.reduce_sum(dx * x)
                return dx, tf.reduce_sum(
                    self._sleep(dy + 0 * x, "weights") * x
                )

            return x * weight, gradient

        return multiply(x, tf.convert_to_tensor(self.weight))


def prepare(
    algorithm, times, steps_per_execution, num_steps, batch_size=1,
    splits=False,
):
    """Prepares sleeping modules for training.

    Args:
        algorithm: callable that makes an algorithm of a list of modules.
        times: list of K `fr_keras.profiling.module_times.ModuleTimes`.
        steps_per_execution: int.
        num_steps: int, iterations.
        batch_size: int.
        splits: as for `SleepingLayer`.

    Returns:
        Callable without arguments that runs `num_steps` iterations of `fit`
        and returns a list of their `Event`s, in the order of their ends.
        Everything is traced, and the modules are past their warm-up.
    """
    recorder = Recorder()
    model = algorithm([
        keras.Sequential([
            keras.Input((1,)), SleepingLayer(k, mine, recorder, splits)
        ])
        for k, mine in enumerate(times)
    ])
    model.compile(
        # With momentum, so that there is something to predict.
        keras.optimizers.SGD(0.01, momentum=0.9), "mse",
        steps_per_execution=steps_per_execution,
    )
    batch = tf.ones([batch_size, 1])
    data = batches.repeated((batch, batch))

    def fit(num_steps):
        recorder.events.clear()
        model.fit(data.take(num_steps), shuffle=False, verbose=0)
        return list(recorder.events)

    warmup = -(-len(times) // steps_per_execution) * steps_per_execution
    fit(warmup)
    fit(num_steps)  # Traces the remainder.
    return lambda: fit(num_steps)
