"""A laboratory: many trainings with late gradients at once, on one device.

What delays do to a training can be seen without K devices. Here R networks
that differ in their seeds and learning rates go through the iterations of
Features Replay together: each operation is done for all of them in one call,
and the whole iteration is compiled. The numbers are those of
`fr_keras.FeaturesReplay`, and of back-propagation at K = 1.
"""

import collections
import functools

import keras
import numpy as np
import tensorflow as tf
from keras.src.optimizers.base_optimizer import BaseOptimizer

import fr_keras
from fr_keras.look_ahead import momentum_of, steps_from_slots
from fr_keras.optimizer_copies import leaves


class Laboratory:
    """R networks that are trained as K modules each, by Features Replay.

    Args:
        make: callable without arguments that makes the network, a Sequential
            or Functional `keras.Model`, without dropout and other randomness.
        num_modules: int, K; 1 is back-propagation.
        optimizer: fresh `keras.optimizers.Optimizer` with the settings for all
            modules and runs.
        loss: `keras.losses.Loss`.
        learning_rates: list of R floats, γ of each run.
        seeds: list of R ints, of the runs' initial weights.
        schedule: callable, what γ is multiplied by at iteration t, from 0.
        policy: `fr_keras.DelayPolicy`, or `None` for the paper's algorithm.
        gradient_shrink: float, β.
        jit_compile: bool, whether to compile an iteration with XLA.

    Raises:
        ValueError: if there are not as many seeds as learning rates, the
            network cannot be split or has random layers, or the optimizer
            accumulates gradients, scales losses or excludes variables.

    Example:

    ```python
    laboratory = Laboratory(
        make, 4, keras.optimizers.Adam(),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        learning_rates=[1e-3, 1e-3, 3e-3, 3e-3], seeds=[0, 1, 0, 1],
        policy=fr_keras.DelayPolicy(),
    )
    for x, y in batches:  # Of shapes (4, batch, ...), a mini-batch for each.
        losses = laboratory.train(x, y)
    ```
    """

    def __init__(
        self, make, num_modules, optimizer, loss, learning_rates, seeds,
        schedule=lambda t: 1.0, policy=None, gradient_shrink=1.0,
        jit_compile=True,
    ):
        if len(learning_rates) != len(seeds):
            raise ValueError(
                "There must be a seed for each learning rate. "
                f"Received: {learning_rates=}, {seeds=}"
            )
        _check_optimizer(optimizer)
        self.num_runs = len(seeds)
        self.iteration = 0
        self._loss = loss
        self._shrink = gradient_shrink
        self._schedule = schedule
        self._rates = np.array(learning_rates, "float32")
        self._policy = policy if num_modules > 1 else None
        initial = {seed: self._weights(make, num_modules, seed)
                   for seed in dict.fromkeys(seeds)}
        self._modules = [
            _Module(
                submodel, optimizer, self._policy, num_modules - k,
                [initial[seed][k - 1] for seed in seeds],
            )
            for k, submodel in enumerate(self._submodels, start=1)
        ]
        # Inputs and states that wait for their error gradients, and these.
        self._queues = [collections.deque() for _ in self._modules[:-1]]
        self._deltas = None
        self._step = tf.function(
            self._iterate, autograph=False, jit_compile=jit_compile
        )
        self._evaluate = tf.function(
            functools.partial(_vectorized, self._outputs), autograph=False,
            jit_compile=jit_compile,
        )

    def _weights(self, make, num_modules, seed):
        """Makes a network; returns the weights of its modules."""
        keras.utils.set_random_seed(seed)
        network = make()
        for layer in network._flatten_layers():
            if layer._seed_generators:
                raise ValueError(
                    "The network must have no layers that draw random "
                    f"numbers. Received: layer={layer!r}"
                )
        self._submodels = (
            fr_keras.partition(network, num_modules) if num_modules > 1
            else [network]
        )
        return [
            [
                [v.numpy() for v in variables] for variables in
                (m.trainable_variables, m.non_trainable_variables)
            ]
            for m in self._submodels
        ]

    def train(self, x, y):
        """One iteration of all runs.

        Args:
            x: nest of arrays of shape (R, batch, ...), a mini-batch for each.
            y: array of shape (R, batch, ...).

        Returns:
            Array of shape (R,), the losses.
        """
        t, K = self.iteration, len(self._modules)
        x, y = keras.tree.map_structure(tf.convert_to_tensor, (x, y))
        if self._deltas is None:
            self._fill(x)
        rates = [
            [self._mean_rate(t, module, horizon) for horizon in
             (1, max(module.delay, 1))]
            for module in self._modules
        ]
        loss, made, self._deltas = self._step(
            x, y, [queue.popleft() for queue in self._queues], self._deltas,
            tf.constant(np.array(rates)),
            tf.constant([t >= K - k for k in range(1, K + 1)]),
        )
        for queue, kept in zip(self._queues, made):
            queue.append(kept)
        self.iteration += 1
        return loss.numpy()

    def _mean_rate(self, t, module, horizon):
        # In float32, as in the library, so that the last digits are the same.
        rates = np.mean([
            self._rates * np.float32(self._schedule(t + ahead))
            for ahead in range(horizon)
        ], axis=0)
        if self._policy is None:
            return rates
        return rates * np.float32(self._policy.learning_rate(module.delay))

    def _fill(self, x):
        """Fills queues with what has the right shapes; nothing is learned."""
        self._deltas = []
        features = keras.tree.map_structure(tf.zeros_like, x)
        for module, queue in zip(self._modules, self._queues):
            state = [v.read_value() for v in module.state]
            queue.extend([(features, state)] * module.delay)
            features, _ = _vectorized(module.call, features, state, [
                weight.read_value() for weight in module.weights
            ])
            features = keras.tree.map_structure(tf.zeros_like, features)
            self._deltas.append(features)

    def _iterate(self, x, y, kept, deltas, rates, active):
        made, features = [], x
        for k, module in enumerate(self._modules[:-1]):
            state = [v.read_value() for v in module.state]
            made.append((features, state))
            features, moved = _vectorized(
                module.call, features, state, module.ahead("play", rates[k][1])
            )
            module.move(moved)
        found = [
            _vectorized(
                module.replay, *kept[k], module.ahead("replay", rates[k][0]),
                deltas[k],
            )
            for k, module in enumerate(self._modules[:-1])
        ]
        last = self._modules[-1]
        loss, moved, *learned = _vectorized(
            functools.partial(last.learn, self._loss), features,
            [v.read_value() for v in last.state],
            last.ahead("replay", rates[-1][0]), y,
        )
        last.move(moved)
        for k, (gradients, _) in enumerate([*found, learned]):
            self._modules[k].update(gradients, rates[k][0], active[k])
        sent = [sent for _, sent in [*found, learned]][1:]
        return loss, made, keras.tree.map_structure(
            lambda e: self._shrink * e, sent
        )

    def evaluate(self, x, y, batch_size=250):
        """The loss and the accuracy of all runs.

        Args:
            x: array of examples, the same for all runs.
            y: array of class numbers.
            batch_size: int, at most; the rest that fills no batch is left out.

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
        """The trained weights of a run, in the order of the modules.

        Args:
            run: int.

        Returns:
            List of arrays.
        """
        return [
            weight[run].numpy() for module in self._modules
            for weight in module.weights
        ]


class _Module:
    """A module of all runs: variables with a first dimension of runs.

    Args:
        submodel: `keras.Model`.
        optimizer: as of `Laboratory`.
        policy: `fr_keras.DelayPolicy` or `None`.
        delay: int, s.
        initial: list with the pair of lists of arrays for each run, weights
            and other variables.
    """

    def __init__(self, submodel, optimizer, policy, delay, initial):
        self.submodel = submodel
        self.delay = delay
        self._optimizer = _stateless(optimizer)
        self._optimizer.build(submodel.trainable_variables)
        self.weights, self.state = (
            [tf.Variable(np.stack(runs)) for runs in zip(*of_kind)]
            for of_kind in zip(*initial)
        )
        num_runs = len(initial)
        self._slots = [
            tf.Variable(np.stack([v.numpy()] * num_runs))
            for v in self._optimizer.variables
        ]
        self._rate = next(
            i for i, v in enumerate(self._optimizer.variables)
            if v is self._optimizer._learning_rate
        )
        self._changes = [tf.Variable(tf.zeros_like(w)) for w in self.weights]
        momentum = momentum_of(self._optimizer)
        self._factors = policy and {
            "play": policy.play(delay, momentum),
            "replay": policy.replay(delay, momentum),
        }

    def ahead(self, name, rate):
        """The weights of all runs, as far ahead as the policy says."""
        weights = [weight.read_value() for weight in self.weights]
        if not self._factors or not self._factors[name]:
            return weights
        slots = [slot.read_value() for slot in self._slots]
        changes = [change.read_value() for change in self._changes]
        steps = _vectorized(self._steps, slots, changes, rate)
        return [w + self._factors[name] * d for w, d in zip(weights, steps)]

    def _steps(self, slots, changes, rate):
        """The last steps of one run, as `fr_keras.look_ahead` has them."""
        from_slots = steps_from_slots(self._optimizer)
        if from_slots is None:
            last = tf.cast(slots[self._rate], rate.dtype)
            ratio = tf.math.divide_no_nan(rate, last)
            return [tf.cast(ratio, d.dtype) * d for d in changes]
        mapping = list(zip(self._optimizer.variables, slots))
        with keras.StatelessScope(mapping):
            return [
                from_slots(self._optimizer, i, rate)
                for i in range(len(changes))
            ]

    def move(self, state):
        for variable, value in zip(self.state, state):
            variable.assign(value)

    # One run each; `_vectorized` makes it all.

    def call(self, x, state, weights):
        return self.submodel.stateless_call(weights, state, x, training=True)

    def replay(self, x, state, weights, delta):
        outputs, losses, _, tape = self._record(x, state, weights)
        return tape([*keras.tree.flatten(outputs), *losses], [
            *keras.tree.flatten(delta), *map(tf.ones_like, losses)
        ])

    def learn(self, loss, x, state, weights, y):
        outputs, losses, moved, tape = self._record(
            x, state, weights, lambda outputs: loss(y, outputs)
        )
        return (
            losses[0], moved, *tape(losses, [*map(tf.ones_like, losses)])
        )

    def _record(self, x, state, weights, loss=None):
        with tf.GradientTape() as tape:
            inputs = [
                t for t in keras.tree.flatten(x) if t.dtype.is_floating
            ]
            tape.watch((weights, inputs))
            outputs, moved, losses = self.submodel.stateless_call(
                weights, state, x, training=True, return_losses=True
            )
            if loss is not None:
                losses = [loss(outputs), *losses]

        def gradients(targets, output_gradients):
            of_weights, of_inputs = tape.gradient(
                targets, (weights, inputs), output_gradients,
                unconnected_gradients="zero",
            )
            if len(inputs) < len(keras.tree.flatten(x)):
                return of_weights, 0.0  # Of data, which nobody needs.
            return of_weights, keras.tree.pack_sequence_as(x, of_inputs)

        return outputs, losses, moved, gradients

    def update(self, gradients, rate, is_active):
        """Updates all runs, if it is time."""
        slots = [slot.read_value() for slot in self._slots]
        slots[self._rate] = tf.cast(rate, slots[self._rate].dtype)
        before = [weight.read_value() for weight in self.weights]
        weights, slots = _vectorized(
            self._optimizer.stateless_apply, slots, gradients, before
        )
        for variables, values in (
            (self._changes, [b - a for a, b in zip(before, weights)]),
            (self.weights, weights), (self._slots, slots),
        ):
            for variable, value in zip(variables, values):
                variable.assign(tf.where(is_active, value, variable))


def _check_optimizer(optimizer):
    """Refuses optimizers whose copies would do otherwise."""
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


def _stateless(optimizer):
    """A copy of an optimizer that assigns nothing.

    On TensorFlow, Keras' optimizers can do no `stateless_apply`, since they
    assign by `tf.distribute`. As they are written for all backends they can.
    """
    names = (
        "stateless_apply", "assign", "assign_add", "assign_sub", "_var_key",
        "_apply_weight_decay", "_backend_update_step",
    )
    kind = type(optimizer.__class__.__name__, (optimizer.__class__,), {
        name: getattr(BaseOptimizer, name) for name in names
    })
    return kind.from_config(optimizer.get_config())


def _vectorized(function, *args):
    """A function of one run, for all runs at once.

    Convolutions, of which TensorFlow knows no such form, run after run.
    """
    return tf.vectorized_map(
        lambda each: function(*each), args, warn=False
    )
