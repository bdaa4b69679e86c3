"""Training of modules on devices: compile, the training function."""

import dataclasses
import functools
import inspect
import numbers
import warnings

import keras
import tensorflow as tf
from keras.src.backend import compute_output_spec
from keras.src.trainers.trainer import model_supports_jit

from fr_keras import chain, clock, labels, placement
from fr_keras.algorithms.evaluator import given
from fr_keras.algorithms.fitter import ModuleFitter
from fr_keras.batch_spec import BatchSpec, standardize_batch
from fr_keras.device_function import DeviceFunction
from fr_keras.features import ErrorGradient
from fr_keras.optimizers import ModuleOptimizers, given_optimizer
from fr_keras.reading import draw_up_to
from fr_keras.tied import flat_layers


@dataclasses.dataclass
class _Age:
    """The number of iterations, where TensorFlow does not find it.

    `tf.train.Checkpoint(model=model)` has no replay queues, and must not
    restore that they were full.
    """

    variable: tf.Variable


class ModuleTrainer(ModuleFitter):
    """What `compile` and `fit` do with modules on devices.

    A method of training says how its iterations go (`make_functions` and
    `train_steps`); the function that `fit` calls with batches, which runs
    several iterations in one graph, is made here.

    Attributes:
        modules_at_work: list of K `fr_keras.module.Module`.
        devices: tuple of K full device names.
    """

    # Iterations before all modules are updated; K - 1 for delayed methods.
    num_warmup_steps = 0

    # Whether modules keep their inputs and compute their features again.
    replays = False

    # What looks at iterations, a tuple of `fr_keras.recording.Recorder`s.
    recorders = ()

    @property
    def delays(self):
        """By how many iterations each module's gradient is late.

        List of K ints, or `None` where gradients are no true ones, early or
        late.
        """
        return [0] * len(self.modules_at_work)

    @property
    def training_graph(self):
        """`tf.Graph` of the last call of the training function, or `None`."""
        return None if self._last_trace is None else self._last_trace.graph

    @property
    def queues(self):
        """The `ReplayQueue`s of each module, K lists; known once it trains."""
        return [[] for _ in self.modules_at_work]

    @property
    def age(self):
        """int, the number of iterations since `compile`."""
        return 0 if self._age is None else int(self._age.variable)

    @property
    def age_variable(self):
        """`tf.Variable` with this number, or `None` before training."""
        return None if self._age is None else self._age.variable

    @property
    def batch_spec(self):
        """`BatchSpec` of the batches that were seen, or `None`."""
        return self._batch_spec

    def compile(
        self, optimizer="rmsprop", *args, jit_compile="auto", **kwargs
    ):
        """Configures the model for training.

        The arguments are those of `keras.Model.compile`, and mean the same,
        except:

        Args:
            optimizer: every module gets a copy of its own. A schedule is
                evaluated at the number of the iteration, the same for all
                modules; `clipnorm` and `global_clipnorm` act on each module
                by itself, so that no module waits for another.
            steps_per_execution: int, U. One call of the training function
                runs U iterations in one graph, in which the work of different
                modules overlaps (for the methods that allow it). The numbers
                are those of U single steps.
            jit_compile: `True` compiles every module by itself with XLA, for
                its own device; a module with layers that XLA cannot compile
                runs without it, and a warning says so. `"auto"`, the default,
                and `False` do not.

        Compiling again begins the training anew, with no features or error
        gradients left from before. As in Keras, an optimizer that is given
        again (or `model.optimizer`) goes on with its state, and another one
        is fresh.

        Raises:
            ValueError: in the scope of a `tf.distribute` strategy, or if
                `steps_per_execution` is not a number of iterations.
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
        # Where they are already, unless another model took them.
        self._take_to_devices()
        with tf.device(self.devices[-1]):  # For the metrics' variables.
            super().compile(
                given_optimizer(optimizer), *args, jit_compile=False, **kwargs
            )
        of_layers = {
            id(metric) for module in self.modules_at_work
            for layer in flat_layers(module.submodel)
            for metric in layer._metrics
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
                self.optimizer, self.modules_at_work
            )
        self._age = None
        self._batch_spec = None
        self._last_trace = None

    def get_compile_config(self):
        config = super().get_compile_config()
        if config:
            config["jit_compile"] = self._xla_per_module
        return config

    def compile_from_config(self, config):
        self.compile(**keras.saving.deserialize_keras_object(config))
        self._build_optimizer()

    def _build_optimizer(self):
        """Makes the optimizers' variables, where the layers have theirs."""
        if not self.optimizer.built and self._layers_are_built():
            self.optimizer.build(self.trainable_variables)

    def check_data(self, x):
        """Refuses batches that the method cannot train on (hook).

        Args:
            x: nest of tensors, what the first module takes.

        Raises:
            ValueError: in one line, what is expected and what came.
        """

    def make_state(self):
        """Makes fresh state, like replay queues (hook).

        Called before the first training step after `compile`, when the
        modules are built.
        """

    def state_variables(self):
        """The variables that `make_state` made (hook).

        Returns:
            List of variables, always in the same order.
        """
        return []

    def make_functions(self):
        """Makes the functions that `train_steps` calls (hook).

        Called after `make_state`, and again when batches of a new kind come.
        """

    def train_steps(self, batches, age):
        """Runs a few iterations; traced into one graph (hook).

        Args:
            batches: list of `(x, y, sample_weight)`, one for each iteration.
            age: int, the number of iterations that were run before, at most
                `num_warmup_steps`.

        Returns:
            List of one `fr_keras.recording.Played` for each iteration, or
            `None`, if the method has none.
        """
        raise NotImplementedError

    def on_devices(self, functions):
        """Makes functions of the modules work on the modules' devices.

        Args:
            functions: iterable of callables on nests of tensors, one for each
                module, from the first up.

        Returns:
            List of `DeviceFunction`s.
        """
        return [
            DeviceFunction(function, device, uses_xla, self.run_eagerly, k)
            for k, (function, device, uses_xla) in enumerate(
                zip(functions, self.devices, self._uses_xla)
            )
        ]

    def _choose_xla(self):
        """Which modules are compiled with XLA, a list of K bools."""
        if not self._xla_per_module or self.run_eagerly:
            return [False] * len(self.modules_at_work)
        chosen = []
        for k, module in enumerate(self.modules_at_work, start=1):
            chosen.append(model_supports_jit(module.submodel))
            if chosen[-1]:
                continue
            names = [
                layer.name for layer in module.submodel._flatten_layers()
                if not layer.supports_jit
            ]
            reason = (
                f"XLA cannot compile its layers {', '.join(names)}" if names
                else "XLA is not deterministic, or not for this machine"
            )
            warnings.warn(
                f"Module {k} runs without `jit_compile=True`: {reason}.",
                stacklevel=2,
            )
        return chosen

    def trace_features(self, functions):
        """Traces what makes features, in all modules but the last.

        Args:
            functions: list of `DeviceFunction`s, one for each module, which
                take the used features and return what the module makes of
                them, what it keeps of it, and more.

        Returns:
            List of tuples `(features, kept, graph)`, one for each module but
            the last: nests of `tf.TensorSpec`, the module's whole output and
            what it keeps, and the `tf.Graph`.
        """
        x, _, _ = self._batch_spec.structure
        features = tf.function(
            self.modules_at_work[0].standardize, autograph=False
        ).get_concrete_function(x).structured_outputs
        traced = []
        for module, function in zip(self.modules_at_work[:-1], functions):
            (made, kept, *_), graph = function.trace(module.used(features))
            features = module.output(features, made)
            traced.append((features, kept, graph))
        return traced

    def delta_spec(self, k, features):
        """What the error gradient of a module's features looks like.

        Args:
            k: int, the number of the module, from 0.
            features: `Features` of `tf.TensorSpec`, its output.

        Returns:
            `ErrorGradient` of `tf.TensorSpec`.
        """
        scale = self.modules_at_work[-1].loss_scale
        return ErrorGradient(
            [
                spec if differentiable else None
                for spec, differentiable in zip(
                    features.tensors, self._chain.differentiable[k]
                )
            ],
            None if scale is None else tf.TensorSpec.from_tensor(scale),
        )

    def make_train_function(self, force=False):
        self._check_places()
        if self.optimizer is None:
            raise ValueError(
                "Training needs an optimizer; give one to `compile`. "
                "Received: optimizer=None"
            )
        if self.train_function is None or force:
            # Now, so that callbacks can restore the state of optimizers.
            self._build_optimizer()
            self._batch_spec = None
            self.train_function = labels.told_plainly(self._train_on_iterator)

    def _train_on_iterator(self, iterator):
        """Runs up to `steps_per_execution` iterations; returns the logs."""
        batches = [
            standardize_batch(batch)
            for batch in draw_up_to(self.steps_per_execution, iterator)
        ]
        if not batches:
            raise StopIteration
        for x, _, _ in batches:
            self.check_data(x)
        self._prepare_for(batches)
        age = min(self.age, self.num_warmup_steps)
        wanted = tuple(r.begin(len(batches)) for r in self.recorders)
        if not any(wanted):
            wanted = ()  # The same trace as without recorders.
        if self.run_eagerly:
            run = functools.partial(
                self._train_on_batches, batches, age, wanted
            )
        else:
            tensors = [t for b in batches for t in self._batch_spec.flatten(b)]
            self._last_trace = self._trace(len(batches), age, wanted)
            run = functools.partial(self._last_trace, *tensors)
        logs, selected = self._counted(run, batches)
        for i, recorder in enumerate(self.recorders):
            recorder.end(batches, selected[i] if wanted else None)
        return logs

    def _counted(self, run, batches):
        """Runs iterations, and counts them if all of it succeeds.

        Args:
            run: callable without arguments, which trains on `batches`.
            batches: list of tuples `(x, y, sample_weight)`.

        Returns:
            What `run` returns.
        """
        try:
            result = run()
            # Not in the graph, where it would not wait for plays and queues.
            self.age_variable.assign_add(len(batches))
        except BaseException as error:
            cause = error
            if isinstance(error, tf.errors.CancelledError):
                cause = self._find_cause(batches) or error
            if not labels.are_wrong(cause):
                # Some queues may have moved, and others not: fill them anew.
                self.age_variable.assign(0)
            if cause is error:
                raise
            raise cause from error
        return result

    def _find_cause(self, batches):
        """The error behind that of a function which was cancelled, or `None`.

        When a function fails on one device, those on others that wait for it
        are cancelled, and TensorFlow may report nothing else. So their work is
        done again, one module after the other; it changes nothing.
        """
        # A worker that is lost would not answer this either.
        if not all(map(placement.is_here, self.devices)):
            return None
        modules = self.modules_at_work
        try:
            for x, y, sample_weight in batches:
                features = modules[0].standardize(x)
                for module in modules:
                    made, losses, _ = module.forward(module.used(features))
                    features = module.output(features, made)
                y_pred = modules[-1].packed(features)
                with tf.device(self.devices[-1]):
                    labels.check(self.loss, y, y_pred)
                    with self._fits(y, y_pred), keras.StatelessScope():
                        loss = self.compute_loss(
                            y=y, y_pred=y_pred, sample_weight=sample_weight
                        )
                        self._count_losses(given(loss, losses), y_pred)
                        self.compute_metrics(None, y, y_pred, sample_weight)
        except Exception as error:
            return error
        return None

    def prepare(self, spec):
        """Builds all that training needs, before the first batch comes.

        Args:
            spec: `BatchSpec` of the batches that will come.
        """
        self.make_train_function()
        self._prepare(spec, None)

    def _prepare_for(self, batches):
        """Builds what depends on the kind of batches, when it is new."""
        spec = self._batch_spec
        for batch in batches:
            if spec is not None and spec.covers(batch):
                continue
            alone = BatchSpec(batch)
            if spec is not None:
                # What is open in the two together can hide what is wrong here.
                self._check_batch(alone)
            spec = alone if spec is None else spec.union(batch)
        if spec is self._batch_spec:
            return
        try:
            self._prepare(spec, batches[0])
        except Exception:
            self._batch_spec = None  # The next batch is looked at anew.
            raise

    def _check_batch(self, spec):
        """Checks that modules and loss can take batches of one more kind."""
        if self.run_eagerly:
            return  # It will be seen at once.
        x, y, sample_weight = spec.symbols()
        self._batch_spec = None  # Modules are being built for this kind.
        outputs = chain.build(self.modules_at_work, x).outputs
        self._check_loss(y, outputs, sample_weight)

    def _check_loss(self, y, y_pred, sample_weight):
        """Checks that the loss can be computed, from symbolic tensors."""
        with self._fits(y, y_pred):
            compute_output_spec(
                self.compute_loss, None, y, y_pred, sample_weight
            )

    def _prepare(self, spec, batch):
        self._batch_spec = spec
        self._trace = functools.cache(self._make_trace)
        symbols = batch if self.run_eagerly else spec.symbols()
        self._chain = chain.build(self.modules_at_work, symbols[0])
        self._build_optimizer()
        if not self.trainable_variables:
            warnings.warn("The model has no trainable weights.", stacklevel=2)
        if not self.run_eagerly:
            _, y, sample_weight = symbols
            with tf.device(self.devices[-1]):
                self._check_loss(y, self._chain.outputs, sample_weight)
                with self._fits(y, self._chain.outputs):
                    self._symbolic_build(data_batch=symbols)
        self._uses_xla = self._choose_xla()
        if self._age is None:
            with tf.device("CPU:0"):
                self._age = _Age(
                    tf.Variable(0, dtype=tf.int64, trainable=False)
                )
            self.make_state()
        # Gradients and update are two functions on purpose. In one, the update
        # of a weight can overtake the computation of e_k, which reads it:
        # TensorFlow's dependency optimizer takes the IdentityN through which
        # Keras passes all gradients for an ordering of the two and drops the
        # control edge between them, and then splits the IdentityN up.
        last = self.modules_at_work[-1]
        self._learn = DeviceFunction(
            self._learn_batch, last.device, self._uses_xla[-1],
            self.run_eagerly, len(self.modules_at_work) - 1,
        )
        # Apart, since nobody waits for it, and XLA cannot compile all metrics.
        self._count = DeviceFunction(
            self._count_batch, last.device, run_eagerly=self.run_eagerly
        )
        self._update = self.on_devices(
            module.update for module in self.modules_at_work
        )
        self.make_functions()

    def _make_trace(self, num_steps, age, wanted):
        """Traces `num_steps` iterations on tensors of any batch size."""

        def run(*tensors):
            tensors = iter(tensors)
            batches = [self._batch_spec.pack(tensors) for _ in range(num_steps)]
            return self._train_on_batches(batches, age, wanted)

        specs = self._batch_spec.tensor_specs() * num_steps
        return tf.function(run, autograph=False).get_concrete_function(*specs)

    def _train_on_batches(self, batches, age, wanted):
        with tf.device(self.devices[-1]):  # To which labels go anyway.
            checks = [
                labels.check(self.loss, y, self._chain.outputs)
                for _, y, _ in batches
            ]
        # Before anything is changed: wrong labels leave the model as it was.
        with tf.control_dependencies([c for c in checks if c is not None]):
            with clock.running(any(s and s.timed for s in wanted)) as calls:
                plays = self.train_steps(batches, age)
        selected = [
            None if selection is None else selection(plays, calls)
            for selection in wanted
        ]
        with tf.device(self.devices[-1]):
            return self.get_metrics_result(), selected

    def learn(self, x, y, sample_weight, losses_below):
        """The last module's part of an iteration, the same in all methods.

        Forward pass, loss, backward pass and metrics.

        Args:
            x: `Features`, h_{K-1}.
            y: nest of tensors, the labels.
            sample_weight: nest of tensors or `None`.
            losses_below: list of scalar tensors, the losses of the layers of
                the other modules, which are reported but not differentiated.

        Returns:
            Tuple `(gradients, sent, state)`: g_K, a list of tensors; e_K, the
            `ErrorGradient` of `x`; and the state that was moved, as
            `Module.commit` returns it.
        """
        gradients, sent, outputs, losses, state = self._learn(
            x, y, sample_weight
        )
        self._count(losses + losses_below, y, outputs, sample_weight)
        return gradients, self.modules_at_work[-1].sent(sent), state

    def _learn_batch(self, x, y, sample_weight):
        *learned, moved = self.differentiate_loss(x, y, sample_weight)
        return *learned, self.modules_at_work[-1].commit(moved)

    def differentiate_loss(self, x, y, sample_weight, state=()):
        """Forward and backward pass of the last module, moving nothing.

        Args:
            x: `Features`, h_{K-1}.
            y: nest of tensors, the labels.
            sample_weight: nest of tensors or `None`.
            state: as for `fr_keras.forward_backward.record`.

        Returns:
            Tuple `(gradients, sent, outputs, losses, moved)`: as
            `Module.backward` and `Module.forward` return them, the losses
            with that of `compile` as the first.
        """
        module = self.modules_at_work[-1]
        with tf.GradientTape() as tape:
            module.watch(tape, x)
            outputs, losses, moved = module.forward(
                x, zip(module.replayed_state, state)
            )
            loss = self.compute_loss(
                y=y, y_pred=module.packed(outputs), sample_weight=sample_weight
            )
        losses = given(loss, losses)
        gradients, sent = module.backward(tape, x, losses)
        return gradients, sent, outputs, losses, moved

    def _count_batch(self, losses, y, outputs, sample_weight):
        """Counts a batch in the loss and the metrics."""
        y_pred = self.modules_at_work[-1].packed(outputs)

        def count():
            self._count_losses(losses, y_pred)
            if self._compile_metrics is not None:
                self._compile_metrics.update_state(y, y_pred, sample_weight)

        if self.loss_guard is None:
            count()
        else:
            self.loss_guard(losses, count)

    def update(self, gradients, learning_rate):
        """Updates the modules, each on its device by its own optimizer.

        Args:
            gradients: list of K lists of tensors, g_k; `None` for a module
                that is not to be updated.
            learning_rate: γ_t, of `self.optimizer.next_learning_rate()`.
        """
        for k, of_module in enumerate(gradients):
            if of_module is not None:
                self._update[k](of_module, learning_rate)
