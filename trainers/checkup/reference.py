"""Features Replay in NumPy and float64, for networks of dense layers.

Written from the paper alone (Huo et al., 2018, Algorithm 1): it shares no code
with what it is compared with.
"""

import collections

import numpy as np


def features_replay(modules, batches, learning_rate, momentum):
    """Trains modules on the mean squared error, by SGD with momentum.

    Args:
        modules: list of K lists of pairs `(kernel, bias)` of float64 arrays,
            for layers `tanh(x @ kernel + bias)`; they are changed in place.
        batches: list of pairs `(x, y)` of float64 arrays.
        learning_rate: float.
        momentum: float.
    """
    last = len(modules) - 1
    velocities = [[[0.0, 0.0] for _ in module] for module in modules]
    # Module k keeps its inputs until their error gradient has come back.
    inputs = [collections.deque(maxlen=last - k + 1) for k in range(last + 1)]
    deltas = [None] * (last + 1)
    for t, (x, y) in enumerate(batches):
        features = x
        for k, module in enumerate(modules):
            inputs[k].append(features)
            features = _activations(module, features)[-1]
        deltas[last] = 2 * (features - y) / features.size
        learned, sent = {}, [None] * (last + 1)
        for k, module in enumerate(modules):
            if t >= last - k:  # Its first error gradient has come.
                learned[k], error = _backward(
                    module, _activations(module, inputs[k][0]), deltas[k]
                )
                if k > 0:
                    sent[k - 1] = error
        for k, gradients in learned.items():
            for layer, velocity, gradient in zip(
                modules[k], velocities[k], gradients
            ):
                for i in range(2):
                    velocity[i] = (
                        momentum * velocity[i] - learning_rate * gradient[i]
                    )
                    layer[i][...] += velocity[i]
        deltas = sent


def _activations(module, x):
    """The input of a module and the output of each of its layers."""
    found = [x]
    for kernel, bias in module:
        found.append(np.tanh(found[-1] @ kernel + bias))
    return found


def _backward(module, activations, delta):
    """Gradients of all layers, and of the input."""
    gradients = []
    for (kernel, _), x, h in reversed(
        [*zip(module, activations, activations[1:])]
    ):
        delta = delta * (1 - h**2)
        gradients.insert(0, (x.T @ delta, delta.sum(axis=0)))
        delta = delta @ kernel.T
    return gradients, delta
