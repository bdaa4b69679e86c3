"""A function traced once and called in every iteration, on one device."""

import tensorflow as tf

from fr_keras.engine import clock


class DeviceFunction:
    """A function that runs on one device.

    It is traced once and called, not inlined, wherever it is used, so a graph
    of many iterations takes little longer to build than one. In graphs and
    profiles it has the name of the function: play, replay, update; in a graph,
    all calls that work for a module are in one scope, such as module_2/play.

    Args:
        function: callable on nests of tensors.
        device: full device name. (A cluster would run a function of several
            devices by way of its coordinator, results and all.)
        jit_compile: bool, whether to compile it with XLA.
        run_eagerly: bool, whether to skip tracing.
        module: int, the number of the module it works for, from 0, or `None`,
            for the clock (see `fr_keras.engine.clock`).
    """

    def __init__(
        self, function, device, jit_compile=False, run_eagerly=False,
        module=None,
    ):
        def on_device(*args):
            with tf.device(device):
                return function(*args)

        original = getattr(function, "func", function)  # Of a `partial`.
        name = getattr(original, "__name__", "")
        on_device.__name__ = name if name.isidentifier() else "function"
        self._device = device
        self._module = module
        self._run_eagerly = run_eagerly
        self._timed = None  # Created on first use.
        self._name = on_device.__name__
        self._function = (
            on_device
            if run_eagerly
            else tf.function(
                on_device,
                autograph=False,
                reduce_retracing=True,
                jit_compile=jit_compile,
                experimental_attributes={"_noinline": True},
            )
        )

    def __call__(self, *args):
        # Outer scope for the call itself, inner one for its operations.
        with tf.device(self._device), self._named():
            if self._module is None or not clock.is_running():
                return self._function(*args)
            if self._timed is None:
                self._timed = clock.with_times(
                    self._function, self._device, self._run_eagerly
                )
            result, start, stop = self._timed(*args)
            clock.record_call(self._module, self._name, start, stop)
            return result

    def _named(self):
        # With a slash at the end, the same scope is entered again.
        name = self._name.lstrip("_") + "/"
        if self._module is None:
            return tf.name_scope(name)
        return tf.name_scope(f"module_{self._module + 1}/{name}")

    def trace(self, *args):
        """Traces the function for later calls.

        Args:
            *args: nests of `tf.TensorSpec`.

        Returns:
            Tuple `(outputs, graph)`: a nest of `tf.TensorSpec`, and the
            `tf.Graph`.
        """
        concrete = self._function.get_concrete_function(*args)
        return concrete.structured_outputs, concrete.graph
