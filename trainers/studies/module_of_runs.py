"""One module of many networks at once."""

import keras
import numpy as np
import tensorflow as tf

from fr_keras.delays.delay_adjustment import adjust
from fr_keras.delays.look_ahead import momentum_of, steps_from_slots
from fr_keras.engine import private


class Module:
    """One module of all runs; runs are the first dimension of its variables.

    Args:
        submodel: `keras.Model`.
        optimizer: as for `Laboratory`.
        policy: `fr_keras.DelayPolicy` or `None`.
        delay: int, s.
        accumulation: int, M, gradients averaged for each update.
        initial: list with a pair of lists of arrays for each run, weights and
            other variables.
    """

    def __init__(
        self, submodel, optimizer, policy, delay, accumulation, initial
    ):
        self.submodel = submodel
        self.delay = delay
        self._every = accumulation
        self._optimizer = _stateless(optimizer)
        if policy is not None:
            adjust(self._optimizer, optimizer, policy, delay)
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
            if v is private.schedule_of(self._optimizer)
        )
        self._changes, self._sums = (
            [tf.Variable(tf.zeros_like(w)) for w in self.weights]
            for _ in range(2)
        )
        momentum = momentum_of(self._optimizer)
        self._factors = policy and {
            "play": policy.play(delay, momentum),
            "replay": policy.replay(delay, momentum),
        }

    def restart(self, initial):
        """Starts over with weights of the same shapes.

        Args:
            initial: as for the constructor.
        """
        ours = self.weights, self.state
        for of_kind, variables in zip(zip(*initial), ours):
            for variable, runs in zip(variables, zip(*of_kind)):
                variable.assign(np.stack(runs))
        for slot, fresh in zip(self._slots, self._optimizer.variables):
            slot.assign(np.stack([fresh.numpy()] * len(initial)))
        for variable in [*self._changes, *self._sums]:
            variable.assign(tf.zeros_like(variable))

    def ahead(self, name, rate):
        """Returns the weights of all runs, as far ahead as the policy says."""
        weights = self.today()
        if not self._factors or not self._factors[name]:
            return weights
        slots = [slot.read_value() for slot in self._slots]
        changes = [change.read_value() for change in self._changes]
        steps = vectorized(self._steps, slots, changes, rate)
        return [w + self._factors[name] * d for w, d in zip(weights, steps)]

    def today(self):
        """Returns the current weights of all runs."""
        return [weight.read_value() for weight in self.weights]

    def _steps(self, slots, changes, rate):
        """Returns the last steps of one run, as in `look_ahead`."""
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

    # The methods below handle one run; `vectorized` extends them to all.

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
                return of_weights, 0.0  # Gradients of data are not used.
            return of_weights, keras.tree.pack_sequence_as(x, of_inputs)

        return outputs, losses, moved, gradients

    def update(self, gradients, rate, count):
        """Updates all runs, if an update is due.

        Args:
            gradients: list of tensors.
            rate: tensor, the learning rate of each run.
            count: scalar tensor, the number of gradients before, which is
                below 0 during warm-up.
        """
        is_active = count >= 0
        if self._every > 1:
            is_active &= (count + 1) % self._every == 0
            gradients = [
                tf.where(count >= 0, g + kept, kept)
                for g, kept in zip(gradients, self._sums)
            ]
            for kept, g in zip(self._sums, gradients):
                kept.assign(tf.where(is_active, tf.zeros_like(g), g))
            gradients = [g / self._every for g in gradients]
        slots = [slot.read_value() for slot in self._slots]
        slots[self._rate] = tf.cast(rate, slots[self._rate].dtype)
        before = self.today()
        weights, slots = vectorized(
            self._optimizer.stateless_apply, slots, gradients, before
        )
        for variables, values in (
            (self._changes, [b - a for a, b in zip(before, weights)]),
            (self.weights, weights), (self._slots, slots),
        ):
            for variable, value in zip(variables, values):
                variable.assign(tf.where(is_active, value, variable))


def _stateless(optimizer):
    """Returns a copy of an optimizer that assigns nothing.

    On TensorFlow, Keras' optimizers do not support `stateless_apply`, since
    they assign by `tf.distribute`. Their methods for all backends do.
    """
    names = (
        "stateless_apply", "assign", "assign_add", "assign_sub", "_var_key",
        "_apply_weight_decay", "_backend_update_step",
    )
    kind = type(optimizer.__class__.__name__, (optimizer.__class__,), {
        name: getattr(private.BaseOptimizer, name) for name in names
    })
    return kind.from_config(optimizer.get_config())


def vectorized(function, *args):
    """Applies a function of one run to all runs at once.

    Convolutions, which TensorFlow cannot vectorize, are run one after the
    other.
    """
    return tf.vectorized_map(
        lambda each: function(*each), args, warn=False
    )
