"""Configures training: `compile`, with one optimizer per module."""

import inspect
import numbers

import keras
import tensorflow as tf

from fr_keras.algorithms.fitter import ModuleFitter
from fr_keras.engine import placement, private
from fr_keras.engine.boundaries import BackwardFunction, ForwardFunction
from fr_keras.engine.device_function import DeviceFunction
from fr_keras.engine.optimizers import ModuleOptimizers, given_optimizer
from fr_keras.engine.tied import flat_layers
from fr_keras.engine.user_warnings import warn


class ModuleCompiler(ModuleFitter):
    """Implements `compile` for modules on devices."""

    def compile(
        self, optimizer="rmsprop", *args, jit_compile="auto", **kwargs
    ):
        """Configures the model for training.

        The arguments are those of `keras.Model.compile`, with the same meaning
        except for:

        Args:
            optimizer: every module gets its own copy. A schedule is evaluated
                at the iteration number, the same for all modules; `clipnorm`
                and `global_clipnorm` act on each module separately, so that no
                module waits for another.
            steps_per_execution: int, U. One call of the training function
                runs U iterations in one graph, in which the work of different
                modules overlaps (for the methods that allow it). The results
                are those of U single steps.
            jit_compile: `True` compiles every module separately with XLA, for
                its own device; a module with layers that XLA cannot compile
                runs without it, with a warning. `"auto"`, the default, and
                `False` do not use XLA.

        Compiling again restarts training and discards stored features and
        error gradients. As in Keras, passing the same optimizer (or
        `model.optimizer`) again keeps its state, and another one starts fresh.

        Raises:
            ValueError: in the scope of a `tf.distribute` strategy, or if
                `steps_per_execution` is not a positive integer.
        """
        self._check_no_strategy()
        given = inspect.signature(keras.Model.compile).bind(
            self, optimizer, *args, **kwargs
        )
        steps = given.arguments.get("steps_per_execution", 1)
        if not isinstance(steps, numbers.Integral) or steps < 1:
            raise ValueError(
                "`steps_per_execution` must be an integer, at least 1. "
                f"Received: steps_per_execution={steps!r}"
            )
        # They are there already, unless another model has moved them.
        self._take_to_devices()
        with tf.device(self.devices[-1]):  # For the metrics' variables.
            super().compile(
                given_optimizer(optimizer), *args, jit_compile=False, **kwargs
            )
        of_layers = {
            id(metric) for module in self.modules_at_work
            for layer in flat_layers(module.submodel)
            for metric in private.own_metrics(layer)
        }
        placement.move(
            [m for m in self.metrics if id(m) not in of_layers],
            self.devices[-1],
        )
        self._xla_per_module = jit_compile is True
        for module in self.modules_at_work:
            module.choose_trainable_variables_anew(
                self.trainable_variables if self.built else None
            )
        if self.optimizer is not None:
            self.optimizer = ModuleOptimizers(
                self.optimizer, self.modules_at_work, self.adjust_optimizer
            )
        self.begin_anew()

    def adjust_optimizer(self, k, optimizer, given):
        """Adjusts the optimizer of one module (hook).

        Args:
            k: int, the number of the module, from 0.
            optimizer: the module's `keras.optimizers.Optimizer`, a copy.
            given: the optimizer passed to `compile`.
        """

    def begin_anew(self):
        """Discards the training so far; called by `compile` (hook)."""

    def get_compile_config(self):
        config = super().get_compile_config()
        if config:
            config["jit_compile"] = self._xla_per_module
        return config

    def compile_from_config(self, config):
        self.compile(**keras.saving.deserialize_keras_object(config))
        self._build_optimizer()

    def _build_optimizer(self):
        """Creates the optimizers' variables, once all layers are built."""
        if not self.optimizer.built and self._layers_are_built():
            self.optimizer.build(self.trainable_variables)

    def on_devices(self, functions):
        """Wraps functions of the modules to run on the modules' devices.

        Args:
            functions: iterable of callables on nests of tensors, one for each
                module, starting with the first.

        Returns:
            List of `DeviceFunction`s.
        """
        return [
            DeviceFunction(function, device, uses_xla, self.run_eagerly, k)
            for k, (function, device, uses_xla) in enumerate(
                zip(functions, self.devices, self._uses_xla)
            )
        ]

    def forward_functions(self, functions):
        """Wraps forward passes of the modules to run between boundaries.

        Args:
            functions: as for `on_devices`.

        Returns:
            List of `fr_keras.engine.boundaries.ForwardFunction`s.
        """
        return [
            ForwardFunction(*pair)
            for pair in zip(self.modules_at_work, self.on_devices(functions))
        ]

    def backward_functions(self, functions):
        """Wraps backward passes of the modules to run between boundaries.

        Args:
            functions: as for `on_devices`.

        Returns:
            List of `fr_keras.engine.boundaries.BackwardFunction`s.
        """
        return [
            BackwardFunction(*pair)
            for pair in zip(self.modules_at_work, self.on_devices(functions))
        ]

    def _choose_xla(self):
        """Chooses the modules to compile with XLA, a list of K bools."""
        if not self._xla_per_module or self.run_eagerly:
            return [False] * len(self.modules_at_work)
        chosen = []
        for k, module in enumerate(self.modules_at_work, start=1):
            chosen.append(private.model_supports_jit(module.submodel))
            if chosen[-1]:
                continue
            names = [
                layer.name for layer in private.sublayers(module.submodel)
                if not layer.supports_jit
            ]
            reason = (
                f"XLA cannot compile its layers {', '.join(names)}" if names
                else "XLA is not deterministic, or not for this machine"
            )
            warn(
                f"Module {k} runs without `jit_compile=True`: {reason}."
            )
        return chosen
