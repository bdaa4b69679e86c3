"""The training function, which `fit` calls with batches, in one graph."""

import dataclasses
import functools

import keras
import tensorflow as tf

from fr_keras.algorithms.evaluator import given
from fr_keras.algorithms.learner import ModuleLearner
from fr_keras.batches import labels
from fr_keras.batches.batch_spec import BatchSpec, standardize_batch
from fr_keras.batches.reading import draw_up_to
from fr_keras.engine import chain, clock, placement, private
from fr_keras.engine.user_warnings import warn


@dataclasses.dataclass
class _Age:
    """Holds the number of iterations where TensorFlow does not track it.

    `tf.train.Checkpoint(model=model)` does not contain replay queues, so it
    must not restore a number of iterations that says they are full.
    """

    variable: tf.Variable


class ModuleTrainer(ModuleLearner):
    """Implements `fit` for modules on devices.

    A training method implements its iterations in `make_functions` and
    `train_steps`. This class creates the function that `fit` calls with
    batches, which runs several iterations in one graph.

    Attributes:
        modules_at_work: list of K `fr_keras.engine.module.Module`.
        devices: tuple of K full device names.
    """

    # Whether modules keep their inputs and recompute their features.
    replays = False

    # Observers of iterations, a tuple of `recording.Recorder`s.
    recorders = ()

    @property
    def num_warmup_steps(self) -> int:
        """Iterations before all modules are updated; K - 1 if delayed."""
        return 0

    @property
    def delays(self):
        """Delays of the modules' gradients, in iterations.

        List of K ints, or `None` if gradients are not true gradients, early
        or late.
        """
        return [0] * len(self.modules_at_work)

    @property
    def training_graph(self):
        """`tf.Graph` of the last call of the training function, or `None`."""
        return None if self._last_trace is None else self._last_trace.graph

    @property
    def queues(self):
        """The `ReplayQueue`s of each module, K lists; known after a step."""
        return [[] for _ in self.modules_at_work]

    @property
    def age(self):
        """int, the number of iterations since `compile`."""
        return 0 if self._age is None else int(self._age.variable)

    @property
    def age_variable(self):
        """`tf.Variable` with the `age`, or `None` before training."""
        return None if self._age is None else self._age.variable

    @property
    def batch_spec(self):
        """`BatchSpec` of the batches seen so far, or `None`."""
        return self._batch_spec

    def begin_anew(self):
        self._age = None
        self._batch_spec = None
        self._last_trace = None

    def check_data(self, x):
        """Rejects batches that the method cannot train on (hook).

        Args:
            x: nest of tensors, the input of the first module.

        Raises:
            ValueError: in one line, what was expected and received.
        """

    def make_state(self):
        """Creates fresh state, such as replay queues (hook).

        Called before the first training step after `compile`, when the
        modules are built.
        """

    def state_variables(self):
        """Returns the variables created by `make_state` (hook).

        Returns:
            List of variables, always in the same order.
        """
        return []

    def make_functions(self):
        """Creates the functions that `train_steps` calls (hook).

        Called after `make_state`, and again for batches of a new kind.
        """

    def train_steps(self, batches, age):
        """Runs a few iterations; traced into one graph (hook).

        Args:
            batches: list of `(x, y, sample_weight)`, one for each iteration.
            age: int, the number of previous iterations, at most
                `num_warmup_steps`.

        Returns:
            List with one `recording.Played` for each iteration, or `None` if
            the method has none.
        """
        raise NotImplementedError

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
        """Runs iterations and counts them if all succeed.

        Args:
            run: callable without arguments, which trains on `batches`.
            batches: list of tuples `(x, y, sample_weight)`.

        Returns:
            The result of `run`.
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
                # Some queues may have moved and others not: refill them.
                self.age_variable.assign(0)
            if cause is error:
                raise
            raise cause from error
        return result

    def _find_cause(self, batches):
        """Finds the error that caused a function to be cancelled, or `None`.

        When a function fails on one device, functions that wait for it on
        others are cancelled, and TensorFlow may report nothing else. So the
        work is repeated, one module after the other, without changing state.
        """
        # A lost worker would not respond to this either.
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
        """Builds everything that training needs, before the first batch.

        Args:
            spec: `BatchSpec` of the expected batches.
        """
        self.make_train_function()
        self._prepare(spec, None)

    def _prepare_for(self, batches):
        """Rebuilds everything that depends on the kind of batches, if new."""
        spec = self._batch_spec
        for batch in batches:
            if spec is not None and spec.covers(batch):
                continue
            alone = BatchSpec(batch)
            if spec is not None:
                # Dimensions left open in the union can hide errors in this.
                self._check_batch(alone)
            spec = alone if spec is None else spec.union(batch)
        if spec is self._batch_spec:
            return
        try:
            self._prepare(spec, batches[0])
        except Exception:
            self._batch_spec = None  # The next batch is checked again.
            raise

    def _check_batch(self, spec):
        """Checks that modules and loss accept batches of another kind."""
        if self.run_eagerly:
            return  # Errors show at once.
        x, y, sample_weight = spec.symbols()
        self._batch_spec = None  # Modules are rebuilt for this kind.
        outputs = chain.build(self.modules_at_work, x).outputs
        self._check_loss(y, outputs, sample_weight)

    def _check_loss(self, y, y_pred, sample_weight):
        """Checks with symbolic tensors that the loss can be computed."""
        with self._fits(y, y_pred):
            private.compute_output_spec(
                self.compute_loss, None, y, y_pred, sample_weight
            )

    def _prepare(self, spec, batch):
        self._batch_spec = spec
        self._trace = functools.cache(self._make_trace)
        symbols = batch if self.run_eagerly else spec.symbols()
        self._chain = chain.build(self.modules_at_work, symbols[0])
        self._build_optimizer()
        if not self.trainable_variables:
            warn("The model has no trainable weights.")
        if not self.run_eagerly:
            _, y, sample_weight = symbols
            with tf.device(self.devices[-1]):
                self._check_loss(y, self._chain.outputs, sample_weight)
                with self._fits(y, self._chain.outputs):
                    private.build_for(self, symbols)
        self._uses_xla = self._choose_xla()
        if self._age is None:
            with tf.device("CPU:0"):
                self._age = _Age(
                    tf.Variable(0, dtype=tf.int64, trainable=False)
                )
            self.make_state()
        self.make_learning_functions()
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
        with tf.device(self.devices[-1]):  # Labels go there anyway.
            checks = [
                labels.check(self.loss, y, self._chain.outputs)
                for _, y, _ in batches
            ]
        # Checked before any change: wrong labels leave the model as it was.
        with tf.control_dependencies([c for c in checks if c is not None]):
            with clock.running(any(s and s.timed for s in wanted)) as calls:
                plays = self.train_steps(batches, age)
        selected = [
            None if selection is None else selection(plays, calls)
            for selection in wanted
        ]
        with tf.device(self.devices[-1]):
            return self.get_metrics_result(), selected
