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

import fr_keras
from fr_keras.engine import private
from fr_keras.engine.optimizer_copies import leaves
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
                "The laboratory looks ahead without accumulation only. "
                f"Received: {policy=}, {accumulation=}"
            )
        self.num_runs = len(seeds)
        self._make = make
        self._num_modules = num_modules
        self._loss = loss
        self._shrink = gradient_shrink
        self._schedule = schedule
        self._policy = policy if num_modules > 1 else None
        initial = self._begin(learning_rates, seeds)
        self._modules = [
            Module(
                submodel, optimizer, self._policy, num_modules - k,
                accumulation, of_module,
            )
            for k, (submodel, of_module) in enumerate(
                zip(self._submodels, initial), start=1
            )
        ]
        self._step = tf.function(
            self._iterate, autograph=False, jit_compile=jit_compile
        )
        self._exact_step = tf.function(
            self._backpropagate, autograph=False, jit_compile=jit_compile
        )
        self._evaluate = tf.function(
            functools.partial(vectorized, self._outputs), autograph=False,
            jit_compile=jit_compile,
        )

    def restart(self, learning_rates, seeds):
        """Starts over with other runs, without recompiling.

        Args:
            learning_rates: list of R floats.
            seeds: list of R ints.
        """
        if len(seeds) != self.num_runs:
            raise ValueError(
                f"There must be as many runs as at first, {self.num_runs}. "
                f"Received: {seeds=}"
            )
        initial = self._begin(learning_rates, seeds)
        for module, of_module in zip(self._modules, initial):
            module.restart(of_module)

    def _begin(self, learning_rates, seeds):
        """Returns, for each module, the initial weights of all runs."""
        if len(learning_rates) != len(seeds):
            raise ValueError(
                "There must be a seed for each learning rate. "
                f"Received: {learning_rates=}, {seeds=}"
            )
        self.iteration = 0
        self._rates = np.array(learning_rates, "float32")
        self._highest = np.zeros_like(self._rates)  # So far, per run.
        # Inputs and states waiting for error gradients, and these gradients.
        self._queues = [
            collections.deque() for _ in range(self._num_modules - 1)
        ]
        self._deltas = None
        initial = {
            seed: self._weights(seed) for seed in dict.fromkeys(seeds)
        }
        return [*zip(*(initial[seed] for seed in seeds))]

    def _weights(self, seed):
        """Builds a network; returns the weights of its modules."""
        keras.utils.set_random_seed(seed)
        network = self._make()
        for layer in private.sublayers(network):
            if private.own_seed_generators(layer):
                raise ValueError(
                    "The network must have no layers that draw random "
                    f"numbers. Received: layer={layer!r}"
                )
        self._submodels = (
            fr_keras.partition(network, self._num_modules)
            if self._num_modules > 1 else [network]
        )
        return [
            [
                [v.numpy() for v in variables] for variables in
                (m.trainable_variables, m.non_trainable_variables)
            ]
            for m in self._submodels
        ]

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
        self._highest = np.maximum(
            self._highest, self._rates * np.float32(self._schedule(t))
        )
        rates = [
            [self._mean_rate(t, module, horizon) for horizon in
             (1, max(module.delay, 1))]
            for module in self._modules
        ]
        rates = tf.constant(np.array(rates))
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

    def _mean_rate(self, t, module, horizon):
        # In float32, as in the library, so that the last digits are the same.
        rates = np.mean([
            self._rates * np.float32(self._schedule(t + ahead))
            for ahead in range(horizon)
        ], axis=0)
        if self._policy is None:
            return rates
        high, low = (
            self._policy.learning_rate(module.delay),
            self._policy.decayed_learning_rate(module.delay),
        )
        share = np.divide(
            rates, np.maximum(rates, self._highest), dtype="float64",
            out=np.zeros(len(rates)), where=rates > 0,
        )
        return np.float32(rates * high**share * low**(1 - share))

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

    def _iterate(self, x, y, kept, deltas, rates, counts):
        made, features = [], x
        for k, module in enumerate(self._modules[:-1]):
            state = [v.read_value() for v in module.state]
            made.append((features, state))
            features, moved = vectorized(
                module.call, features, state, module.ahead("play", rates[k][1])
            )
            module.move(moved)
        found = [
            vectorized(
                module.replay, *kept[k], module.ahead("replay", rates[k][0]),
                deltas[k],
            )
            for k, module in enumerate(self._modules[:-1])
        ]
        last = self._modules[-1]
        loss, moved, *learned = vectorized(
            functools.partial(last.learn, self._loss), features,
            [v.read_value() for v in last.state],
            last.ahead("replay", rates[-1][0]), y,
        )
        last.move(moved)
        for k, (gradients, _) in enumerate([*found, learned]):
            self._modules[k].update(gradients, rates[k][0], counts[k])
        sent = [sent for _, sent in [*found, learned]][1:]
        return loss, made, keras.tree.map_structure(
            lambda e: self._shrink * e, sent
        )

    def _backpropagate(self, x, y, rates, counts):
        kept, features = [], x
        for module in self._modules[:-1]:
            state = [v.read_value() for v in module.state]
            kept.append((features, state))
            features, moved = vectorized(
                module.call, features, state, module.today()
            )
            module.move(moved)
        last = self._modules[-1]
        loss, moved, *learned = vectorized(
            functools.partial(last.learn, self._loss), features,
            [v.read_value() for v in last.state], last.today(), y,
        )
        last.move(moved)
        found = [learned]
        for module, of_module in zip(self._modules[-2::-1], kept[::-1]):
            found.append(vectorized(
                module.replay, *of_module, module.today(), found[-1][1]
            ))
        for k, (gradients, _) in enumerate(reversed(found)):
            self._modules[k].update(gradients, rates[k][0], counts[k])
        return loss

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
            "The laboratory takes one optimizer for all variables, without "
            "a loss scale, accumulation and exclusions from weight decay. "
            f"Received: optimizer={optimizer!r}"
        )
