"""Look-ahead: where the updates to come will take a module's weights."""

import tensorflow as tf

from fr_keras.optimizer_copies import leaves


class LookAhead:
    """Predicts a module's weights from its last two updates.

    Let Δ_t = w_t − w_{t−1} be what the last update changed, and μ the momentum
    of the optimizer. The updates to come, were the gradient to stay as it is,
    obey

        Δ_{t+j} = μ Δ_{t+j−1} + (Δ_t − μ Δ_{t−1}),

    and the weights after n of them are w_t + Δ_{t+1} + … + Δ_{t+n}, that is
    w_t + a Δ_t + b (Δ_t − Δ_{t−1}) with factors a and b that depend on n and μ
    only. Which factors are used says a `fr_keras.DelayPolicy`. Both are
    multiplied by γ / γ_{t−1}, the mean learning rate of the updates to come
    over that of the last.

    The updates are taken as they are, whatever optimizer makes them, with
    weight decay, clipping and constraints; so this keeps two copies of the
    trainable weights, Δ_t and Δ_{t−1}, on the module's device.

    Weights that layers themselves assign are not predicted.

    Args:
        module: `fr_keras.module.Module` with its optimizer.
        policy: `fr_keras.DelayPolicy`.
        delay: int, s, by how many iterations the module's gradient is late.

    Attributes:
        variables: list of `tf.Variable`s, what is kept.
    """

    def __init__(self, module, policy, delay):
        self._module = module
        self._predicted = {
            id(variable): variable for variable in module.trainable_variables
        }
        self._leaf_of = {
            id(variable): i
            for i, leaf in enumerate(leaves(module.optimizer))
            for variable in leaf._trainable_variables
        }
        self._leaves = [
            _Leaf(leaf, policy, delay) for leaf in leaves(module.optimizer)
        ]
        with tf.device(module.device):
            self._last, self._before_last = (
                {
                    id(variable): tf.Variable(
                        tf.zeros_like(variable.value), trainable=False
                    )
                    for variable in module.trainable_variables
                }
                for _ in range(2)
            )

    @property
    def variables(self):
        return [*self._last.values(), *self._before_last.values()]

    def leave_out(self, variables):
        """No longer predicts some weights.

        Args:
            variables: list of variables.

        Returns:
            bool: whether any of them was predicted until now.
        """
        found = [self._predicted.pop(id(v), None) for v in variables]
        return any(variable is not None for variable in found)

    def play(self, rates):
        """The weights with which a new mini-batch is played.

        Args:
            rates: list of scalar tensors, γ_t of each optimizer inside of the
                module's, as `ModuleOptimizers.next_learning_rate` has them.

        Returns:
            List of pairs, variables and tensors.
        """
        return self._weights(rates, "play")

    def replay(self, rates):
        """The weights with which the module computes its gradient.

        Args:
            rates: as for `play`.

        Returns:
            List of pairs, variables and tensors.
        """
        return self._weights(rates, "replay")

    def _weights(self, rates, horizon):
        factors = [
            leaf.factors(rate, horizon)
            for leaf, rate in zip(self._leaves, rates)
        ]
        weights = []
        for key, variable in self._predicted.items():
            a, b = factors[self._leaf_of[key]]
            if a is None:
                continue
            last = self._last[key]
            ahead = (
                tf.cast(a, variable.dtype) * last
                + tf.cast(b, variable.dtype) * (last - self._before_last[key])
            )
            # (The gradient is that of the weights themselves.)
            weights.append((variable, variable.value + ahead))
        return weights

    def record(self, update):
        """Makes an update, and keeps what it changed.

        Args:
            update: callable without arguments.
        """
        variables = self._module.trainable_variables
        before = [tf.identity(variable.value) for variable in variables]
        counts = [leaf.count() for leaf in self._leaves]
        update()
        # Overflow under a loss scale, or accumulation, may be all there was.
        were_updated = [
            leaf.count() > count for leaf, count in zip(self._leaves, counts)
        ]
        for variable, value in zip(variables, before):
            key = id(variable)
            last, before_last = self._last[key], self._before_last[key]
            was_updated = were_updated[self._leaf_of[key]]
            before_last.assign(tf.where(was_updated, last, before_last))
            last.assign(
                tf.where(was_updated, variable.value - value, last)
            )


class _Leaf:
    """An optimizer that updates variables, and how far to look ahead of it.

    Args:
        optimizer: `keras.optimizers.Optimizer`.
        policy: `fr_keras.DelayPolicy`.
        delay: int.
    """

    def __init__(self, optimizer, policy, delay):
        self._optimizer = optimizer
        self._every = optimizer.gradient_accumulation_steps or 1
        self._delay = delay
        momentum = momentum_of(optimizer)
        self._tables = {
            name: [of_policy(n, momentum) for n in range(delay + 1)]
            for name, of_policy in (
                ("play", policy.play), ("replay", policy.replay)
            )
        }

    def factors(self, rate, name):
        """The factors a and b, or a pair of `None` if both are 0.

        Args:
            rate: scalar tensor, the learning rate of the updates to come.
            name: "play" or "replay".
        """
        table = self._tables[name]
        if not any(map(any, table)):
            return None, None
        last_rate = tf.cast(self._optimizer.learning_rate, rate.dtype)
        ratio = tf.math.divide_no_nan(rate, last_rate)
        if self._every == 1:
            a, b = table[self._delay]
            return a * ratio, b * ratio
        # The updates that the delay will have been.
        count = self._optimizer._iterations
        updates = (count + self._delay) // self._every - count // self._every
        a, b = tf.unstack(tf.gather(tf.constant(table, rate.dtype), updates))
        return a * ratio, b * ratio

    def count(self):
        """How many updates there were, a scalar tensor."""
        return tf.identity(tf.convert_to_tensor(self._optimizer.iterations))


def momentum_of(optimizer):
    """The momentum μ of an optimizer: the share of an update that goes on.

    Args:
        optimizer: `keras.optimizers.Optimizer` that updates variables itself.

    Returns:
        float, 0 if it has none.
    """
    for name in ("momentum", "beta_1"):
        value = getattr(optimizer, name, None)
        if value is not None:
            return float(value)
    return 0.0
