"""The algorithms a second time: plain, slow, independent of the library.

Section by section the algorithm of the paper: Python loops, deques, float64,
no `tf.function`, no Keras training, optimizers written out. Only the layers'
formulas and derivatives are TensorFlow's elementary operations.
"""

import collections

import keras
import numpy as np
import tensorflow as tf


class PlainModule:
    """A chain of layers and their weights, copied from a Keras model."""

    def __init__(self, layers):
        self.layers = [
            layer for layer in layers
            if not isinstance(layer, keras.layers.InputLayer)
        ]
        self.weights = []
        self.statistics = []
        for layer in self.layers:
            self.weights.append(
                [tf.constant(v.numpy()) for v in layer.trainable_variables]
            )
            self.statistics.append(
                [v.numpy() for v in layer.non_trainable_variables]
            )

    def forward(self, weights, x, move_statistics):
        for i, layer in enumerate(self.layers):
            x = self._layer(i, layer, weights[i], x, move_statistics)
        return x

    def _layer(self, i, layer, weights, x, move_statistics):
        if isinstance(layer, keras.layers.Dense):
            x = tf.matmul(x, weights[0]) + sum(weights[1:])
            tanh = layer.activation is keras.activations.tanh
            return tf.tanh(x) if tanh else x
        if isinstance(layer, keras.layers.Conv2D):
            return tf.nn.conv2d(x, weights[0], 1, "SAME") + sum(weights[1:])
        if isinstance(layer, keras.layers.ReLU):
            return tf.nn.relu(x)
        if isinstance(layer, keras.layers.Flatten):
            return tf.reshape(x, [len(x), -1])
        if isinstance(layer, keras.layers.GlobalAveragePooling2D):
            return tf.reduce_mean(x, [1, 2])
        if isinstance(layer, keras.layers.BatchNormalization):
            axes = list(range(x.shape.rank - 1))
            mean = tf.reduce_mean(x, axes)
            variance = tf.reduce_mean(tf.square(x - mean), axes)
            if move_statistics:
                old_mean, old_variance = self.statistics[i]
                m = layer.momentum
                self.statistics[i] = [
                    m * old_mean + (1 - m) * mean.numpy(),
                    m * old_variance + (1 - m) * variance.numpy(),
                ]
            x = (x - mean) / tf.sqrt(variance + layer.epsilon)
            return x * weights[0] + weights[1]
        raise TypeError(f"no formula for {layer}")


def cross_entropy(y, logits):
    """Mean over the batch of -log softmax(logits)[y]."""
    log_p = logits - tf.reduce_logsumexp(logits, axis=1, keepdims=True)
    return -tf.reduce_mean(tf.gather(log_p, y, axis=1, batch_dims=1))


class SGD:
    """`momentum` and `weight_decay` as in `keras.optimizers.SGD`."""

    def __init__(self, momentum=0.0, weight_decay=0.0, nesterov=True):
        self.momentum = momentum
        self.nesterov = nesterov
        self.weight_decay = weight_decay
        self.velocities = {}

    def __call__(self, key, w, g, rate):
        w = w * (1 - rate * self.weight_decay)
        v = self.velocities.get(key, 0.0)
        v = self.momentum * v - rate * g
        self.velocities[key] = v
        if self.momentum == 0 or not self.nesterov:
            return w + v
        return w + self.momentum * v - rate * g

    def last_step(self, key, rate):
        """Δ, to look ahead by; `None` without momentum."""
        return self.velocities.get(key, 0.0) if self.momentum else None


class Adam:
    """Kingma & Ba, with bias correction by the module's own updates."""

    def __init__(self, beta_1=0.9, beta_2=0.999, epsilon=1e-7):
        self.beta_1, self.beta_2, self.epsilon = beta_1, beta_2, epsilon
        self.moments = {}

    def __call__(self, key, w, g, rate):
        m, v, n = self.moments.get(key, (0.0, 0.0, 0))
        n += 1
        m = self.beta_1 * m + (1 - self.beta_1) * g
        v = self.beta_2 * v + (1 - self.beta_2) * g**2
        self.moments[key] = m, v, n
        return w + self.last_step(key, rate)

    def last_step(self, key, rate):
        """Δ at a learning rate."""
        if key not in self.moments:
            return 0.0
        m, v, n = self.moments[key]
        corrected = rate * np.sqrt(1 - self.beta_2**n) / (1 - self.beta_1**n)
        return -corrected * m / (np.sqrt(v) + self.epsilon)


def update(module, rule, gradients, rate):
    """One step of a rule.

    Args:
        module: `PlainModule`.
        rule: `(key, weight, gradient, rate) -> weight`.
        gradients: list of tensors, in the order of the module's weights.
        rate: float, γ_t.
    """
    gradients = iter(gradients)
    for i, weights in enumerate(module.weights):
        module.weights[i] = [
            tf.constant(
                rule((i, j), w.numpy(), next(gradients).numpy(), rate)
            )
            for j, w in enumerate(weights)
        ]


class Ahead:
    """The weights of modules as their last steps predict them.

    Args:
        modules: list of `PlainModule`, k = 1 … K.
        rules: list of their optimizers' rules.
        learning_rate: function `t -> γ_t`.
        rate_factor: function of the delay, and of the share that γ_t is of the
            highest learning rate until now, what γ_t is multiplied by.
    """

    def __init__(self, modules, rules, learning_rate, rate_factor):
        self._modules = modules
        self._rules = rules
        self._learning_rate = learning_rate
        self._rate_factor = rate_factor
        # What the last updates changed, and at what learning rates.
        self._changes = [None] * len(modules)

    def __call__(self, k, t, factor, horizon):
        """w + f Δ, by the coming learning rates.

        Args:
            k: int, the module, from 1.
            t: int, the iteration.
            factor: function `s -> f` of the delay, or `None` for w.
            horizon: int, iterations over which learning rates are averaged.

        Returns:
            List like the weights of a `PlainModule`.
        """
        weights = self._modules[k - 1].weights
        if factor is None:
            return weights
        delay = len(self._modules) - k
        rate = self._late(delay, t, np.mean([
            self._learning_rate(t + i) for i in range(max(horizon, 1))
        ]))
        return [
            [
                w + factor(delay) * self._step(k - 1, i, j, rate)
                for j, w in enumerate(of_layer)
            ]
            for i, of_layer in enumerate(weights)
        ]

    def _late(self, delay, t, rate):
        """What a learning rate at iteration t is for a module that is late."""
        highest = max(rate, *(self._learning_rate(i) for i in range(t + 1)))
        # Rates have the precision that they are given in.
        return type(rate)(
            float(rate) * self._rate_factor(delay, float(rate) / float(highest))
        )

    def _step(self, k, i, j, rate):
        step = self._rules[k].last_step((i, j), rate)
        if step is not None:
            return step
        if self._changes[k] is None:
            return 0.0
        last_rate, changes = self._changes[k]
        return changes[i][j] * rate / last_rate

    def update(self, k, gradients, t):
        """Updates module k, from 1, at iteration t."""
        module = self._modules[k - 1]
        before = [list(of_layer) for of_layer in module.weights]
        rate = self._late(len(self._modules) - k, t, self._learning_rate(t))
        update(module, self._rules[k - 1], gradients, rate)
        self._changes[k - 1] = rate, [
            [b - a for a, b in zip(*of_layer)]
            for of_layer in zip(before, module.weights)
        ]


def delayed_backprop(
    modules, optimizer, learning_rate, batches, delays,
    play_ahead=None, replay_ahead=None, rate_factor=lambda delay, share: 1.0,
    drained=False,
):
    """Back-propagation through the whole network, applied late.

    Module k is updated at iteration t by its part of the gradient at w^{t-d_k},
    d_k being its delay; not before there is one.

    Args:
        modules: as for `features_replay`, as are the next three.
        optimizer: function.
        learning_rate: function.
        batches: list.
        delays: list of int, d_k.
        play_ahead: as for `features_replay`, as is the next.
        replay_ahead: function, for the last module.
        rate_factor: as for `features_replay`.
        drained: bool, whether what is late at the end is applied then.

    Returns:
        List of the losses.
    """
    rules = [optimizer() for _ in modules]
    ahead = Ahead(modules, rules, learning_rate, rate_factor)
    gradients, losses = [], []
    for t, (x, y) in enumerate(batches):
        K = len(modules)
        weights = [
            ahead(k, t, play_ahead, K - k) if k < K
            else ahead(k, t, replay_ahead, 1)
            for k in range(1, K + 1)
        ]
        with tf.GradientTape() as tape:
            tape.watch(weights)
            h = tf.constant(x)
            for module, of_module in zip(modules, weights):
                h = module.forward(of_module, h, move_statistics=True)
            loss = cross_entropy(y, h)
        losses.append(float(loss))
        gradients.append(
            tape.gradient(loss, [sum(of_module, []) for of_module in weights])
        )
        for k in range(K):
            if t >= delays[k]:
                g = gradients[t - delays[k]][k]
                ahead.update(k + 1, g, t)
    for t in range(len(batches), len(batches) + max(delays) * drained):
        for k, delay in enumerate(delays):
            if 0 <= t - delay < len(batches):
                ahead.update(k + 1, gradients[t - delay][k], t)
    return losses


def features_replay(
    modules, optimizer, learning_rate, batches, gradient_shrink=1.0,
    play_ahead=None, replay_ahead=None, rate_factor=lambda delay, share: 1.0,
    drained=False,
):
    """Runs the algorithm; the modules hold the trained weights afterwards.

    Args:
        modules: list of `PlainModule`, k = 1 … K.
        optimizer: function `() -> rule`, called once for each module; the
            rule is `(key, weight, gradient, rate) -> weight`.
        learning_rate: function `t -> γ_t`.
        batches: list of `(x, y)`.
        gradient_shrink: float, β, by which e is multiplied when it is sent.
        play_ahead: function `s -> f`: module k plays at w + f Δ, s = K - k, or
            `None` for w.
        replay_ahead: the same for replays and the last module's gradient.
        rate_factor: function of the delay, and of the share that γ_t is of the
            highest learning rate until now, what γ_t is multiplied by.
        drained: bool, whether K - 1 iterations follow in which nothing new is
            played, and modules learn from what is left in their queues.

    Returns:
        List of the losses f(h_K^t, y^t), where the last module computes its
        gradient.
    """
    K = len(modules)
    rules = [optimizer() for _ in modules]
    ahead = Ahead(modules, rules, learning_rate, rate_factor)
    # Module k keeps its inputs of K - k + 1 iterations, today's included.
    queues = [collections.deque(maxlen=K - k + 1) for k in range(1, K + 1)]
    delta = [None] * (K + 1)
    losses = []
    last = len(batches)
    for t, (x, y) in enumerate(batches + [(None, None)] * (K - 1) * drained):
        # 1. Play.
        h = tf.constant(x) if t < last else None
        for k in range(1, K + 1) if t < last else ():
            queues[k - 1].append(h)
            weights = (
                ahead(k, t, play_ahead, K - k) if k < K
                else ahead(k, t, replay_ahead, 1)
            )
            h = modules[k - 1].forward(weights, h, move_statistics=True)
        if t < last:
            losses.append(float(cross_entropy(y, h)))

        next_delta = [None] * (K + 1)
        updates = []
        for k in range(1, K + 1):
            if t < K - k or t >= last + K - k:
                continue
            module = modules[k - 1]
            weights = ahead(k, t, replay_ahead, 1)
            flat = sum(weights, [])
            # 2. Replay of h_{k-1}^{t-(K-k)}, the oldest input.
            x_replayed = queues[k - 1][0]
            if t >= last - 1:
                queues[k - 1].popleft()  # Nothing will push it out.
            with tf.GradientTape() as tape:
                tape.watch([x_replayed, *flat])
                h = module.forward(weights, x_replayed, False)
                # 3. Backward: <h̃_k, δ_k> has the gradient that is wanted.
                objective = (
                    cross_entropy(y, h) if k == K
                    else tf.reduce_sum(h * delta[k])
                )
            *g, e = tape.gradient(objective, [*flat, x_replayed])
            updates.append((k, g))
            # 5. Send.
            next_delta[k - 1] = gradient_shrink * e
        # 4. Update.
        for k, g in updates:
            ahead.update(k, g, t)
        delta = next_delta
    return losses
