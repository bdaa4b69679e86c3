"""Many trainings with late gradients at once, on one device.

The effect of delays on training can be studied without K devices. Here R
networks with different seeds and learning rates run the iterations of Features
Replay together: each operation is done for all of them in one call, and the
whole iteration is compiled. The numbers are those of `fr_keras.FeaturesReplay`,
and of back-propagation at K = 1.
"""

import collections
import functools

import keras
import numpy as np
import tensorflow as tf

from fr_keras.engine.optimizer_copies import leaves
from trainers.studies import iterations, networks
from trainers.studies.learning_rates import LearningRates
from trainers.studies.module_of_runs import Module, vectorized


class Laboratory:
    """R networks, each trained as K modules by Features Replay.

    Args:
        make: callable without arguments that makes the network, a Sequential
            or Functional `keras.Model`, without dropout or other randomness.
        num_modules: int, K; 1 is back-propagation.
        optimizer: fresh `keras.optimizers.Optimizer` with the settings for all
            modules and runs.
        loss: `keras.losses.Loss`.
        learning_rates: list of R floats, γ of each run.
        seeds: list of R ints, of the runs' initial weights.
        schedule: callable, returns the factor of γ at iteration t, from 0.
        policy: `fr_keras.DelayPolicy`, or `None` for the paper's algorithm.
        gradient_shrink: float, β.
        accumulation: int, M: gradients averaged for each update.
        jit_compile: bool, whether to compile an iteration with XLA.

    Raises:
        ValueError: if there are not as many seeds as learning rates, the
            network cannot be split or has random layers, the optimizer
            accumulates gradients, scales losses or excludes variables, or
            both a policy and accumulation are given.

    Example:

    ```python
    laboratory = Laboratory(
        make, 4, keras.optimizers.Adam(),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        learning_rates=[1e-3, 1e-3, 3e-3, 3e-3], seeds=[0, 1, 0, 1],
        policy=fr_keras.DelayPolicy(),
    )
    for x, y in batches:  # Shapes (4, batch, ...), a mini-batch per run.
        losses = laboratory.train(x, y)
    ```
    """

    def __init__(
        self, make, num_modules, optimizer, loss, learning_rates, seeds,
        schedule=lambda t: 1.0, policy=None, gradient_shrink=1.0,
        accumulation=1, jit_compile=True,
    ):
        _check_optimizer(optimizer)
        if policy is not None and accumulation > 1:
            raise ValueError(
                "The laboratory supports look-ahead only without accumulation. "
                f"Received: {policy=}, {accumulation=}"
            )
        self.num_runs = len(seeds)
        self._make = make
        self._num_modules = num_modules
        self._loss = loss
        self._schedule = schedule
        self._policy = policy if num_modules > 1 else None
        submodels, initial = self._begin(learning_rates, seeds)
        self._modules = [
            Module(
                submodel, optimizer, self._policy, num_modules - k,
                accumulation, of_module,
            )
            for k, (submodel, of_module) in enumerate(
                zip(submodels, initial), start=1
            )
        ]
        compiled = functools.partial(
            tf.function, autograph=False, jit_compile=jit_compile
        )
        self._step = compiled(functools.partial(
            iterations.features_replay, self._modules, loss, gradient_shrink
        ))
        self._exact_step = compiled(functools.partial(
            iterations.backpropagation, self._modules, loss
        ))
        self._evaluate = compiled(
            functools.partial(vectorized, self._outputs)
        )

    def restart(self, learning_rates, seeds):
        """Starts over with other runs, without recompiling.

        Args:
            learning_rates: list of R floats.
            seeds: list of R ints.
        """
        if len(seeds) != self.num_runs:
            raise ValueError(
                f"There must be as many runs as initially, {self.num_runs}. "
                f"Received: {seeds=}"
            )
        _, initial = self._begin(learning_rates, seeds)
        for module, of_module in zip(self._modules, initial):
            module.restart(of_module)

    def _begin(self, learning_rates, seeds):
        """Begins new runs; returns their networks as `networks.make_all`."""
        if len(learning_rates) != len(seeds):
            raise ValueError(
                "There must be a seed for each learning rate. "
                f"Received: {learning_rates=}, {seeds=}"
            )
        self.iteration = 0
        self._rates = LearningRates(
            learning_rates, self._schedule, self._policy
        )
        # Inputs and states waiting for error gradients, and these gradients.
        self._queues = [
            collections.deque() for _ in range(self._num_modules - 1)
        ]
        self._deltas = None
        return networks.make_all(self._make, self._num_modules, seeds)

    def train(self, x, y, exact=False):
        """Runs one iteration of all runs.

        Args:
            x: nest of arrays of shape (R, batch, ...), a mini-batch per run.
            y: array of shape (R, batch, ...).
            exact: bool, whether to use back-propagation, at the current
                weights; inputs waiting for late error gradients keep waiting.

        Returns:
            Array of shape (R,), the losses.
        """
        t = self.iteration
        x, y = keras.tree.map_structure(tf.convert_to_tensor, (x, y))
        if self._deltas is None:
            self._fill(x)
        rates = tf.constant(
            self._rates.at(t, [module.delay for module in self._modules])
        )
        counts = tf.constant([
            t if exact else t - module.delay for module in self._modules
        ])
        self.iteration += 1
        if exact:
            return self._exact_step(x, y, rates, counts).numpy()
        loss, made, self._deltas = self._step(
            x, y, [queue.popleft() for queue in self._queues], self._deltas,
            rates, counts,
        )
        for queue, kept in zip(self._queues, made):
            queue.append(kept)
        return loss.numpy()

    def _fill(self, x):
        """Fills queues with values of the right shapes; nothing is learned."""
        self._deltas = []
        features = keras.tree.map_structure(tf.zeros_like, x)
        for module, queue in zip(self._modules, self._queues):
            state = [v.read_value() for v in module.state]
            queue.extend([(features, state)] * module.delay)
            features, _ = vectorized(module.call, features, state, [
                weight.read_value() for weight in module.weights
            ])
            features = keras.tree.map_structure(tf.zeros_like, features)
            self._deltas.append(features)

    def evaluate(self, x, y, batch_size=250):
        """Returns the loss and the accuracy of all runs.

        Args:
            x: array of examples, the same for all runs.
            y: array of class numbers.
            batch_size: int, at most; an incomplete last batch is dropped.

        Returns:
            Tuple of two arrays of shape (R,): mean losses, and the share of
            examples whose class has the highest output.
        """
        batch_size = min(batch_size, len(x))
        found = []
        for begin in range(0, len(x) - batch_size + 1, batch_size):
            batch = [
                tf.constant(np.broadcast_to(part, (self.num_runs, *part.shape)))
                for part in (
                    a[begin:begin + batch_size] for a in (x, y)
                )
            ]
            found.append(self._evaluate(*batch, [
                [[v.read_value() for v in variables]
                 for variables in (module.weights, module.state)]
                for module in self._modules
            ]))
        return tuple(np.mean(found, axis=0))

    def _outputs(self, x, y, variables):
        for module, of_module in zip(self._modules, variables):
            x, _ = module.submodel.stateless_call(*of_module, x)
        right = tf.argmax(x, -1) == tf.cast(y, tf.int64)
        loss = self._loss(y, x)
        return loss, tf.reduce_mean(tf.cast(right, loss.dtype))

    def weights(self, run):
        """Returns the trained weights of a run, in the order of the modules.

        Args:
            run: int.

        Returns:
            List of arrays.
        """
        return [
            weight[run].numpy() for module in self._modules
            for weight in module.weights
        ]


def _check_optimizer(optimizer):
    """Refuses optimizers whose copies would behave differently."""
    if leaves(optimizer) != [optimizer] or (
        optimizer.gradient_accumulation_steps
        or getattr(optimizer, "_exclude_from_weight_decay", None)
        or getattr(optimizer, "_exclude_from_weight_decay_pattern", None)
    ):
        raise ValueError(
            "The laboratory needs one optimizer for all variables, without a "
            "loss scale, accumulation or exclusions from weight decay. "
            f"Received: optimizer={optimizer!r}"
        )
