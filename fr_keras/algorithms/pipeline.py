"""A pipeline: K modules on K devices, and how a method trains them."""

import tensorflow as tf

from fr_keras.algorithms.learning import Learning
from fr_keras.batches.shards import Share
from fr_keras.engine import chain
from fr_keras.engine.boundaries import BackwardFunction, ForwardFunction
from fr_keras.engine.device_function import DeviceFunction
from fr_keras.engine.xla import choose_xla


class BasePipeline:
    """K modules on K devices, with the state that a method keeps for them.

    A training method is a subclass that implements its iterations in
    `make_functions` and `train_steps`, up to the gradients that updates need.

    Args:
        model: `fr_keras.algorithms.base.Algorithm`, which has the options of
            the method, the optimizer and the loss.
        modules: list of K `fr_keras.engine.module.Module`.
        number: int, its number among the pipelines of the model, from 0.

    Attributes:
        model, modules, number: the arguments.
        devices: list of K full device names.
        chain: `fr_keras.engine.chain.Chain`, the tensors at the boundaries of
            the modules, or `None` before they are built.
        batch_spec: `BatchSpec` of the batches to train on, or `None`.
        uses_xla: list of K bools, whether modules are compiled with XLA.
        learn: `fr_keras.algorithms.learning.Learning`, the last module's part
            of an iteration; available in `make_functions`.
    """

    # Whether modules keep their inputs and recompute their features.
    replays = False

    # Whether losses are weighted by shares, as replicas need. Not inherited.
    replicates = False

    # Two str if parts of a batch have their own loss: why, and the way out.
    divides_loss: tuple[str, str] | None = None

    # Whether modules may share weights, which are then sent with the features.
    ties_weights = True

    def __init__(self, model, modules, number=0):
        self.model = model
        self.modules = modules
        self.number = number
        self.devices = [module.device for module in modules]
        self.chain = None
        self.batch_spec = None
        self.learn = None

    @property
    def num_modules(self):
        """int, K."""
        return len(self.modules)

    @property
    def num_warmup_steps(self):
        """Iterations before all modules are updated; K - 1 if delayed."""
        return 0

    @property
    def delays(self):
        """Delays of the modules' gradients, in iterations.

        List of K ints, or `None` if the method does not use true gradients.
        """
        return [0] * self.num_modules

    @property
    def learners(self):
        """What learns from gradients: the modules, and what a method adds.

        List of objects that can be used like `ModuleCopy`s.
        """
        return self.modules

    @property
    def queues(self):
        """The `ReplayQueue`s of the modules, K lists, after the first step."""
        return [[] for _ in self.modules]

    def check_data(self, x):
        """Rejects batches that the method cannot train on (hook).

        Args:
            x: nest of tensors, the input of the first module.

        Raises:
            ValueError: if a batch is invalid; one line that says what was
                expected and received.
        """

    def adjust_optimizer(self, k, optimizer, given):
        """Adjusts the optimizer of one module (hook).

        Args:
            k: int, the number of the module, from 0.
            optimizer: the module's `keras.optimizers.Optimizer`, a copy.
            given: the optimizer passed to `compile`.
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

    def next_rates(self):
        """Returns the upcoming learning rates that an iteration needs (hook).

        Called once for each iteration, before γ_t is read.

        Returns:
            Any object; it is passed to `train_steps`.
        """
        return None

    def rates_of(self, k, learning_rate):
        """Returns the learning rates of one module (hook).

        Args:
            k: int, the number of the learner, from 0.
            learning_rate: list of scalar tensors, the rates shared by all
                modules, one for each optimizer inside the given one.

        Returns:
            List like `learning_rate`.
        """
        del k
        return learning_rate

    def has_gradient(self, k, first_iteration, i):
        """Whether a learner has a gradient, so that it is updated (hook).

        Args:
            k: int, the number of the learner, from 0.
            first_iteration: as for `train_steps`.
            i: int, the number of the iteration in its call, from 0.

        Returns:
            bool, or scalar bool tensor if it depends on `first_iteration`.
        """
        del k, first_iteration, i
        return True

    def train_steps(self, batches, rates, first_iteration):
        """Runs a few iterations; traced into one graph (hook).

        Args:
            batches: list of `fr_keras.batches.shards.Shard`s, one for each
                iteration.
            rates: list of tuples `(learning_rate, ahead)`, one for each: γ_t,
                as for `rates_of`, and the result of `next_rates`.
            first_iteration: scalar tensor, the number t of the first of these
                iterations, 0 after `compile`; an int if run eagerly.

        Yields:
            For each iteration a tuple `(gradients, play_record)`: a list with
            one list of tensors for each learner, g_k, or `None` for one that is
            not to be updated; and `recording.PlayRecord`, or `None` if the
            method does not provide one. The learners that have a gradient are
            updated before the generator resumes.
        """
        raise NotImplementedError(
            f"{type(self.model).__name__} must have a `pipeline_class`, a "
            "subclass of BasePipeline that implements `train_steps`. "
            f"Received: pipeline_class={type(self).__name__}"
        )

    def build(self, x):
        """Builds the modules, unless they are built already.

        Args:
            x: nest of `keras.KerasTensor` or tensors, the input of the first.
        """
        self.chain = chain.build(self.modules, x, self.model.link_dtype)

    def make_learning_functions(self):
        """Creates the functions that all methods share."""
        self.uses_xla = [False] * self.num_modules
        if self.model.xla_per_module and not self.model.run_eagerly:
            self.uses_xla = choose_xla(self.modules)
        self.learn = Learning(
            self.model, self.modules[-1], self.number_of(self.num_modules - 1),
            self.uses_xla[-1],
        )

    def share_spec(self):
        """Returns the `Share` of shards as `tf.TensorSpec`s, or `None`."""
        scalar = tf.TensorSpec([], tf.float64)
        return Share(scalar, scalar) if self.model.replicas > 1 else None

    def number_of(self, k):
        """Returns the number of module k among those of all pipelines."""
        return self.number * self.num_modules + k

    def on_devices(self, functions):
        """Wraps functions of the modules to run on the modules' devices.

        Args:
            functions: iterable of callables on nests of tensors, one for each
                module, starting with the first.

        Returns:
            List of `DeviceFunction`s.
        """
        return [
            DeviceFunction(
                function, device, uses_xla, self.model.run_eagerly,
                self.number_of(k),
            )
            for k, (function, device, uses_xla) in enumerate(
                zip(functions, self.devices, self.uses_xla)
            )
        ]

    def forward_functions(self, functions):
        """Wraps forward passes of the modules to run between boundaries.

        Args:
            functions: as for `on_devices`.

        Returns:
            List of `fr_keras.engine.boundaries.ForwardFunction`s.
        """
        return list(map(
            ForwardFunction, self.modules, self.on_devices(functions)
        ))

    def backward_functions(self, functions):
        """Wraps backward passes of the modules to run between boundaries.

        Args:
            functions: as for `on_devices`.

        Returns:
            List of `fr_keras.engine.boundaries.BackwardFunction`s.
        """
        return list(map(
            BackwardFunction, self.modules, self.on_devices(functions)
        ))
