"""Training from one `compile` to the next: batches, graphs, iterations."""

import functools

import tensorflow as tf

from fr_keras.algorithms.failures import find_cause
from fr_keras.algorithms.lockstep import Lockstep
from fr_keras.algorithms.objective import check_losses
from fr_keras.batches import labels, shards
from fr_keras.batches.batch_spec import BatchSpec, standardize_batch
from fr_keras.batches.reading import draw_up_to
from fr_keras.engine import chain, clock, placement, private
from fr_keras.engine.user_warnings import warn


class TrainingRun:
    """Trains the pipelines of a model since `compile`.

    A call runs several iterations in one graph, which is traced once for each
    number of iterations and each kind of batches.

    Args:
        model: `fr_keras.algorithms.base.Algorithm`, compiled.

    Attributes:
        batch_spec: `BatchSpec` of the batches seen so far. `None` makes the
            next batch one of a new kind.
        iterations: `tf.Variable`, the number of iterations so far, or `None`
            before the first batch.
        graph: `tf.Graph` of the last call, or `None`.
        lockstep: `fr_keras.algorithms.lockstep.Lockstep`, which runs the
            iterations, or `None`.
    """

    def __init__(self, model):
        self._model = model
        self._pipelines = model.pipelines
        self.batch_spec = None
        self.iterations = None
        self.graph = None
        self.lockstep = None

    @property
    def num_iterations(self):
        """int, the number of iterations since `compile`."""
        return 0 if self.iterations is None else int(self.iterations)

    @property
    def traces(self):
        """int, the number of graphs for the current kind of batches."""
        return self._trace.cache_info().currsize

    def state_variables(self):
        """Returns the state of training besides weights and optimizers.

        Returns:
            List of variables, always in the same order.
        """
        return [
            self.iterations,
            *(
                variable for pipeline in self._pipelines
                for variable in pipeline.state_variables()
            ),
            *(
                module.random_state for pipeline in self._pipelines[1:]
                for module in pipeline.modules
            ),
            *(
                seed for copy in self._model.network_copies
                for seed in copy.seeds()
            ),
        ]

    def __call__(self, iterator):
        """Runs up to `steps_per_execution` iterations.

        Args:
            iterator: iterator over batches.

        Returns:
            dict of logs.

        Raises:
            StopIteration: at the end of the iterator.
        """
        batches = [
            standardize_batch(batch)
            for batch in draw_up_to(self._model.steps_per_execution, iterator)
        ]
        if not batches:
            raise StopIteration
        for batch in batches:
            self._pipelines[0].check_data(batch[0])
            if len(self._pipelines) > 1:
                shards.check(batch)
        self._prepare_for(batches)
        self.lockstep.synchronization.follow()
        recorders = self._model.recorders
        selections = tuple(r.begin(len(batches)) for r in recorders)
        if not any(selections):
            selections = ()  # The same trace as without recorders.
        if self._model.run_eagerly:
            run = functools.partial(
                self._train_on_batches, batches, self.num_iterations, selections
            )
        else:
            tensors = [t for b in batches for t in self.batch_spec.flatten(b)]
            trace = self._trace(len(batches), selections)
            self.graph = trace.graph
            run = functools.partial(trace, *tensors)
        logs, selected = self._run_and_count(run, batches)
        for i, recorder in enumerate(recorders):
            recorder.end(batches, selected[i] if selections else None)
        return logs

    def _run_and_count(self, run, batches):
        """Runs iterations and counts them if all succeed.

        Args:
            run: callable without arguments, which trains on `batches`.
            batches: list of tuples `(x, y, sample_weight)`.

        Returns:
            The result of `run`.
        """
        try:
            result = run()
            # Outside the graph, so that it waits for plays and queues.
            self.iterations.assign_add(len(batches))
        except BaseException as error:
            cause = error
            if isinstance(error, tf.errors.CancelledError):
                cause = find_cause(self._model, batches) or error
            if not labels.are_wrong(cause):
                # Some queues may have advanced and others not: refill them.
                self.iterations.assign(0)
            if cause is error:
                raise
            raise cause from error
        return result

    def prepare(self, spec, batch=None):
        """Builds everything needed to train on batches of one kind.

        Args:
            spec: `BatchSpec`.
            batch: a batch of this kind, needed to run eagerly.
        """
        model = self._model
        if model.replicas > 1 and model.run_eagerly:
            raise ValueError(
                "Replicas train in graphs only. For debugging, use "
                "`replicas=1`. Received: "
                f"replicas={model.replicas}, run_eagerly=True"
            )
        self.batch_spec = spec
        self._trace = functools.cache(self._make_trace)
        x, y, sample_weight = symbols = (
            batch if model.run_eagerly else spec.symbols()
        )
        for pipeline in self._pipelines:
            pipeline.batch_spec = spec
            pipeline.build(x)
        model.build_optimizer()
        if not model.trainable_variables:
            warn("The model does not have any trainable weights.")
        if not model.run_eagerly:
            outputs = self._pipelines[0].chain.outputs
            with tf.device(model.devices[-1]):
                model.objective.check(y, outputs, sample_weight)
                if (
                    len(self._pipelines) > 1 or self._pipelines[0].divides_loss
                ):
                    check_losses(model, y, outputs)
                with model.objective.explain_errors(y, outputs):
                    private.build_for(model, symbols)
        is_first = self.iterations is None
        if is_first:
            with tf.device("CPU:0"):
                self.iterations = tf.Variable(
                    0, dtype=tf.int64, trainable=False
                )
        for pipeline in self._pipelines:
            if is_first:
                pipeline.make_state()
            pipeline.make_learning_functions()
            pipeline.make_functions()
        self.lockstep = Lockstep(model)

    def _prepare_for(self, batches):
        """Rebuilds everything that depends on the kind of batches, if new."""
        spec = self.batch_spec
        for batch in batches:
            if spec is not None and spec.covers(batch):
                continue
            alone = BatchSpec(batch)
            if spec is not None:
                # Unknown dimensions in the union can hide errors in this one.
                self._check_batch(alone)
            spec = alone if spec is None else spec.union(batch)
        if spec is self.batch_spec:
            return
        try:
            self.prepare(spec, batches[0])
        except Exception:
            self.batch_spec = None  # The next batch is checked again.
            raise

    def _check_batch(self, spec):
        """Checks that modules and loss accept batches of another kind."""
        if self._model.run_eagerly:
            return  # Errors show at once.
        x, y, sample_weight = spec.symbols()
        self.batch_spec = None  # Modules are rebuilt for this kind.
        outputs = chain.build(
            self._pipelines[0].modules, x, self._model.link_dtype
        ).outputs
        self._model.objective.check(y, outputs, sample_weight)

    def _make_trace(self, num_steps, selections):
        """Traces `num_steps` iterations on tensors of any batch size."""

        def run(*tensors):
            tensors = iter(tensors)
            batches = [self.batch_spec.pack(tensors) for _ in range(num_steps)]
            with tf.device(placement.this_host()):
                first_iteration = tf.identity(self.iterations)
            return self._train_on_batches(batches, first_iteration, selections)

        specs = self.batch_spec.tensor_specs() * num_steps
        return tf.function(run, autograph=False).get_concrete_function(*specs)

    def _train_on_batches(self, batches, first_iteration, selections):
        model = self._model
        outputs = self._pipelines[0].chain.outputs
        with tf.device(model.devices[-1]), tf.name_scope("labels"):
            checks = [
                labels.check(model.loss, y, outputs) for _, y, _ in batches
            ]
        # Before any change: wrong labels leave the model unchanged.
        with tf.control_dependencies([c for c in checks if c is not None]):
            with clock.running(any(s and s.timed for s in selections)) as calls:
                plays = self.lockstep.run(batches, first_iteration)
        selected = [
            None if selection is None else selection(plays, calls)
            for selection in selections
        ]
        with tf.device(model.devices[-1]):
            return model.get_metrics_result(), selected

    def drain(self):
        """Lets delayed modules learn from the batches in their queues.

        Further training starts with empty queues.
        """
        first_iteration = self.num_iterations
        if not first_iteration:
            return
        self.lockstep.synchronization.follow()
        run = self.lockstep.drain
        if not self._model.run_eagerly:
            run = tf.function(run, autograph=False)
        run(first_iteration)
        self.iterations.assign(0)
