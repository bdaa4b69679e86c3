"""Modules that only sleep, so that the schedule alone is seen."""

import collections
import threading
import time

import keras
import numpy as np
import tensorflow as tf

Event = collections.namedtuple("Event", "module kind start stop")


class Recorder:
    """Records who worked when; a module does one thing at a time."""

    def __init__(self, num_modules):
        self.events = []
        self._busy = [threading.Lock() for _ in range(num_modules)]

    def work(self, module, kind, seconds):
        with self._busy[module]:
            start = time.perf_counter()
            time.sleep(seconds)
            self.events.append(
                Event(module, kind, start, time.perf_counter())
            )


class SleepingLayer(keras.layers.Layer):
    """Multiplies by its weight; forward takes τ, backward 2τ seconds."""

    def __init__(self, module, tau, recorder, **kwargs):
        super().__init__(**kwargs)
        self.module = module
        self.tau = tau
        self.recorder = recorder

    def build(self, input_shape):
        self.weight = self.add_weight(shape=(), initializer="ones")

    def _sleep(self, x, kind, seconds):
        def sleep(x):
            self.recorder.work(self.module, kind, seconds)
            return x

        y = tf.numpy_function(sleep, [x], x.dtype, stateful=False)
        return tf.ensure_shape(y, x.shape)

    def call(self, x):
        @tf.custom_gradient
        def multiply(x, weight):
            x = self._sleep(x, "forward", self.tau)

            def gradient(dy):
                # Needs what forward made, like any backward pass.
                dx = self._sleep(dy * weight + 0 * x, "backward", 2 * self.tau)
                return dx, tf.reduce_sum(dx * x)

            return x * weight, gradient

        return multiply(x, tf.convert_to_tensor(self.weight))

    def get_config(self):
        return {
            **super().get_config(),
            "module": self.module,
            "tau": self.tau,
            "recorder": self.recorder,
        }


def sleeping_model(num_modules, tau, recorder):
    """A model of `num_modules` sleeping layers."""
    return keras.Sequential(
        [keras.Input((1,))]
        + [SleepingLayer(k, tau, recorder) for k in range(num_modules)]
    )


def fit(algorithm, num_modules, num_steps, steps_per_execution, tau=0.02):
    """Trains sleeping modules; returns the events of one call, after another.

    The first call, which traces and warms up, is not recorded.
    """
    recorder = Recorder(num_modules)
    model = algorithm(
        sleeping_model(num_modules, tau, recorder), num_modules
    )
    model.compile("sgd", "mse", steps_per_execution=steps_per_execution)
    x = np.ones([num_steps, 1], "float32")
    warmup = max(steps_per_execution, num_modules)
    model.fit(x[:1].repeat(warmup, 0), x[:1].repeat(warmup, 0), 1, verbose=0)
    recorder.events.clear()
    model.fit(x, x, batch_size=1, verbose=0)
    return recorder.events
