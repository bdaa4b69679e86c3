"""`compile` and `fit` for pipelines of modules."""

import functools
import inspect
import numbers

import keras
import tensorflow as tf

from fr_keras.algorithms.face import Face
from fr_keras.algorithms.places import check_no_strategy
from fr_keras.algorithms.resuming import order_callbacks
from fr_keras.algorithms.training_run import TrainingRun
from fr_keras.batches import labels
from fr_keras.batches.reading import reads
from fr_keras.engine import placement, private
from fr_keras.engine.optimizers import ModuleOptimizers, given_optimizer
from fr_keras.engine.tied import flat_layers


class Fitting(Face):
    """Trains the pipelines of a Keras model.

    Attributes:
        training: `fr_keras.algorithms.training_run.TrainingRun`, the training
            since `compile`.
        epoch_iterator: Keras' iterator over the epochs of the running call of
            `fit`, or `None`.
        recorders: tuple of `fr_keras.engine.recording.Recorder`s, which
            observe iterations.
        xla_per_module: bool, whether modules are compiled with XLA.
    """

    recorders = ()
    training: TrainingRun
    epoch_iterator = None
    xla_per_module = False
    _is_fitting = False

    @property
    def replicas(self) -> int:
        return len(self.pipelines)

    @property
    def all_modules(self):
        """The `Module`s of all pipelines, a list."""
        return [
            module for pipeline in self.pipelines for module in pipeline.modules
        ]

    @property
    def num_warmup_steps(self) -> int:
        """Iterations before all modules are updated; K - 1 if delayed."""
        return self.pipeline.num_warmup_steps

    @property
    def delays(self):
        """Delays of the modules' gradients, in iterations.

        List of K ints, or `None` if the method does not use true gradients.
        """
        return self.pipeline.delays

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
        check_no_strategy()
        given = inspect.signature(keras.Model.compile).bind(
            self, optimizer, *args, **kwargs
        )
        steps = given.arguments.get("steps_per_execution", 1)
        if not isinstance(steps, numbers.Integral) or steps < 1:
            raise ValueError(
                "`steps_per_execution` must be an integer, at least 1. "
                f"Received: steps_per_execution={steps!r}"
            )
        # Does nothing unless another model has moved them.
        self.places.move_to_devices()
        with tf.device(self.devices[-1]):  # For the metrics' variables.
            super().compile(
                given_optimizer(optimizer), *args, jit_compile=False, **kwargs
            )
        modules = self.pipeline.modules
        layer_metrics = {
            id(metric) for module in modules
            for layer in flat_layers(module.submodel)
            for metric in private.own_metrics(layer)
        }
        placement.move(
            [m for m in self.metrics if id(m) not in layer_metrics],
            self.devices[-1],
        )
        self.xla_per_module = jit_compile is True
        for module in self.all_modules:
            module.reset_trainable_variables(
                self.trainable_variables if self.built else None
            )
        if self.layers_are_built():
            for copy in self.network_copies:
                copy.refresh()
        if self.optimizer is not None:
            self.optimizer = ModuleOptimizers(
                self.optimizer,
                [pipeline.modules for pipeline in self.pipelines],
                self.pipeline.adjust_optimizer,
            )
        self.training = TrainingRun(self)

    def get_compile_config(self):
        config = super().get_compile_config()
        if config:
            config["jit_compile"] = self.xla_per_module
        return config

    def compile_from_config(self, config):
        self.compile(**keras.saving.deserialize_keras_object(config))
        self.build_optimizer()

    def build_optimizer(self):
        """Creates the optimizers' variables, once all layers are built."""
        if not self.optimizer.built and self.layers_are_built():
            self.optimizer.build(self.trainable_variables)

    def make_train_function(self, force=False):
        self._check_places()
        if self.optimizer is None:
            raise ValueError(
                "Training requires an optimizer: pass one to `compile`. "
                "Received: optimizer=None"
            )
        if self.train_function is None or force:
            # Built now, so that callbacks can restore the optimizers' state.
            self.build_optimizer()
            self.training.batch_spec = None
            self.train_function = labels.reports_wrong_labels(
                self.training.__call__
            )

    @reads
    @functools.wraps(keras.Model.fit)
    def fit(self, *args, **kwargs):
        fit = super().fit
        given = inspect.signature(fit).bind(*args, **kwargs).arguments
        given["callbacks"], resuming = order_callbacks(
            self, given.get("callbacks")
        )
        self._is_fitting = True
        try:
            return fit(**given)
        finally:
            # Reset the state of this call, even after an error.
            self._is_fitting = False
            self.epoch_iterator = None
            private.set_initial_epoch(self, None)
            self._remove_guards()
            for callback in resuming:
                callback.after_fit()

    def _remove_guards(self):
        guarded = [self.objective, *self.all_modules]
        if all(owner.guard is None for owner in guarded):
            return
        for owner in guarded:
            owner.guard = None
        self.train_function = None  # The guards are traced into it.

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        # Keras passes the iterator here before the first epoch begins, and
        # later that of the validation data.
        if self._is_fitting and self.epoch_iterator is None:
            self.epoch_iterator = iterator

    def get_metrics_result(self):
        return self.objective.results(super().get_metrics_result())

    def _get_metrics_result_or_logs(self, logs):
        # An epoch resumed after its last batch has no logs, but has results.
        if not logs and float(private.loss_tracker(self).count):
            return self.get_metrics_result()
        return super()._get_metrics_result_or_logs(logs)
