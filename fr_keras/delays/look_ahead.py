"""Look-ahead: predicts where momentum will take a module's weights."""

import keras
import tensorflow as tf

from fr_keras.delays.delay_policy import factor
from fr_keras.engine import private
from fr_keras.engine.optimizer_copies import leaves

# The names of μ in optimizers.
MOMENTA = ("momentum", "beta_1")


class LookAhead:
    """Predicts a module's weights from the last step of its optimizer.

    The prediction is w_t + f Δ_t, with the last step Δ_t = w_t − w_{t−1} and a
    factor f that a `fr_keras.DelayPolicy` chooses. Δ_t is

    - for `keras.optimizers.SGD` with momentum, including Nesterov's, the
      velocity v_t, as defined in Keras: v ← μ v − γ g;
    - for `Adam` and `AdamW`, −γ m̂_t / (√v̂_t + ε) at the mean learning rate γ
      of the coming iterations;
    - for other optimizers, and subclasses with their own `update_step`, the
      change made by the last update, times this γ over the learning rate at
      that time. Only this is stored, one copy of the trainable weights on the
      module's device.

    Weights that layers themselves assign are not predicted.

    Args:
        module: `fr_keras.engine.module.Module` with its optimizer.
        policy: `fr_keras.DelayPolicy`.
        delay: int, s, by how many iterations the module's gradient is late.

    Attributes:
        variables: list of the stored `tf.Variable`s.
    """

    def __init__(self, module, policy, delay):
        self._predicted = {
            id(variable): variable for variable in module.trainable_variables
        }
        self._leaves = [
            _Leaf(leaf, policy, delay) for leaf in leaves(module.optimizer)
        ]
        with tf.device(module.device):
            for leaf in self._leaves:
                leaf.keep()

    @property
    def variables(self):
        return [kept for leaf in self._leaves for kept in leaf.kept]

    def leave_out(self, variables):
        """Stops predicting some weights.

        Args:
            variables: list of variables.

        Returns:
            bool: whether any of them was predicted until now.
        """
        found = [self._predicted.pop(id(v), None) for v in variables]
        return any(variable is not None for variable in found)

    def play(self, rates):
        """Returns the weights with which a new mini-batch is played.

        Args:
            rates: list of scalar tensors, the coming learning rate of each
                optimizer inside the module's.

        Returns:
            List of pairs of a variable and a tensor.
        """
        return self._weights(rates, "play")

    def replay(self, rates):
        """Returns the weights with which the module computes its gradient.

        Args:
            rates: as for `play`.

        Returns:
            List of pairs of a variable and a tensor.
        """
        return self._weights(rates, "replay")

    def _weights(self, rates, kind):
        # (The gradient is that of the weights themselves.)
        return [
            (variable, variable.value + tf.stop_gradient(step))
            for leaf, rate in zip(self._leaves, rates)
            for variable, step in leaf.steps(kind, rate)
            if id(variable) in self._predicted
        ]

    def record(self, update):
        """Runs an update and stores its changes, where they are needed.

        Args:
            update: callable without arguments.
        """
        for leaf in self._leaves:
            leaf.before_update()
        update()
        for leaf in self._leaves:
            leaf.after_update()


class _Leaf:
    """An optimizer that updates variables, and its look-ahead.

    Args:
        optimizer: `keras.optimizers.Optimizer`, built.
        policy: `fr_keras.DelayPolicy`.
        delay: int.

    Attributes:
        trained: list of the variables that it updates.
        kept: list of `tf.Variable`s, the last change of each, or empty.
    """

    def __init__(self, optimizer, policy, delay):
        self.trained = private.trained_by(optimizer)
        self.kept = []
        self._optimizer = optimizer
        self._from_slots = steps_from_slots(optimizer)
        self._every = optimizer.gradient_accumulation_steps or 1
        self._delay = delay
        momentum = momentum_of(optimizer)
        self._factors = {
            name: [factor(policy, name, n, momentum) for n in range(delay + 1)]
            for name in ("play", "replay")
        }

    def keep(self):
        """Creates the variables in `kept`, if they are needed."""
        if self._from_slots is None:
            self.kept = [
                tf.Variable(tf.zeros_like(v.value), trainable=False)
                for v in self.trained
            ]

    def steps(self, kind, rate):
        """Yields pairs of a variable and the step by which to look ahead.

        Args:
            kind: "play" or "replay".
            rate: scalar tensor, the coming learning rate.
        """
        factors = self._factors[kind]
        if not any(factors):
            return
        ahead = factors[self._delay]
        if self._every > 1:
            # The number of updates within the delay.
            count = private.own_iterations(self._optimizer)
            updates = (
                (count + self._delay) // self._every - count // self._every
            )
            ahead = tf.gather(tf.constant(factors, rate.dtype), updates)
        for i, variable in enumerate(self.trained):
            step = self._last_step(i, rate)
            if self._every > 1:
                ahead = tf.cast(ahead, step.dtype)
            yield variable, ahead * step

    def _last_step(self, i, rate):
        if self._from_slots is not None:
            return self._from_slots(self._optimizer, i, rate)
        last_rate = tf.cast(self._optimizer.learning_rate, rate.dtype)
        ratio = tf.math.divide_no_nan(rate, last_rate)
        return tf.cast(ratio, self.kept[i].dtype) * self.kept[i]

    def before_update(self):
        if self.kept:
            self._count = self._number_of_updates()
            self._before = [tf.identity(v.value) for v in self.trained]

    def after_update(self):
        if not self.kept:
            return
        # With overflow under a loss scale, or accumulation, there is no update.
        was_updated = self._number_of_updates() > self._count
        for kept, variable, before in zip(
            self.kept, self.trained, self._before
        ):
            kept.assign(tf.where(was_updated, variable.value - before, kept))
        self._before = None

    def _number_of_updates(self):
        return tf.identity(tf.convert_to_tensor(self._optimizer.iterations))


def steps_from_slots(optimizer):
    """Returns how to compute an optimizer's last step from its own state.

    Args:
        optimizer: `keras.optimizers.Optimizer`, built.

    Returns:
        Callable that takes the optimizer, the number of a variable and the
        coming learning rate, and returns a tensor; or `None` if no rule is
        known.
    """
    update = type(optimizer).update_step
    if update is keras.optimizers.SGD.update_step and optimizer.momentum:
        return _step_of_sgd
    if update is keras.optimizers.Adam.update_step and not optimizer.amsgrad:
        return _step_of_adam
    return None


def last_steps(module):
    """Returns the changes of a module's last update, if known.

    Args:
        module: `fr_keras.engine.module.Module` with its optimizer, built.

    Returns:
        List of tensors, one for each trainable variable; or `None` if an
        optimizer does not reveal them.
    """
    steps = {}
    for leaf in leaves(module.optimizer):
        from_slots = steps_from_slots(leaf)
        if from_slots is None:
            return None
        rate = tf.convert_to_tensor(leaf.learning_rate)
        for i, variable in enumerate(private.trained_by(leaf)):
            steps[id(variable)] = from_slots(leaf, i, rate)
    return [steps.get(id(v)) for v in module.trainable_variables]


def _step_of_sgd(optimizer, i, rate):
    del rate  # Velocity gathered at other learning rates carries over.
    return tf.convert_to_tensor(optimizer.momentums[i])


def _step_of_adam(optimizer, i, rate):
    m, v = (
        tf.convert_to_tensor(slots[i])
        for slots in private.adam_slots(optimizer)
    )
    updates = tf.cast(optimizer.iterations, m.dtype)
    beta_1, beta_2 = (
        tf.cast(beta, m.dtype) for beta in (optimizer.beta_1, optimizer.beta_2)
    )
    # There is no step before the first.
    rate = tf.math.divide_no_nan(
        tf.cast(rate, m.dtype) * tf.sqrt(1 - beta_2**updates),
        1 - beta_1**updates,
    )
    return -rate * m / (tf.sqrt(v) + tf.cast(optimizer.epsilon, m.dtype))


def momentum_of(optimizer):
    """Returns the momentum μ of an optimizer: the share of a step carried on.

    Args:
        optimizer: `keras.optimizers.Optimizer` that updates variables itself.

    Returns:
        float, 0 if it has none.
    """
    for name in MOMENTA:
        value = getattr(optimizer, name, None)
        if value is not None:
            return float(value)
    return 0.0
