"""The true gradient: back-propagation at the current weights and state."""

import functools

import tensorflow as tf

from fr_keras.engine.device_function import DeviceFunction
from fr_keras.engine.forward_backward import ForwardBackward


class TrueGradient:
    """Back-propagates mini-batches through modules on their devices.

    Every module does its part on its own device, in training mode. Weights
    and state do not change.

    Args:
        model: algorithm, such as `fr_keras.FeaturesReplay`, trained for at
            least one step.
    """

    def __init__(self, model):
        self._model = model
        pipeline = model.pipeline
        self._modules = pipeline.modules
        passes = [
            ForwardBackward(module, model.run_eagerly)
            for module in self._modules[:-1]
        ]

        # (State to be moved refers to variables, which no function can return.)
        def forward(of_module, *args):
            made, residuals, losses, _ = of_module.stateless_forward(*args)
            return made, residuals, losses

        def learn(*args):
            gradients, sent, _, losses, _ = pipeline.learn.differentiate(*args)
            return gradients, sent, losses

        self._forward = pipeline.on_devices(
            functools.partial(forward, of_module) for of_module in passes
        )
        self._backward = pipeline.on_devices(
            of_module.backward for of_module in passes
        )
        self._learn = DeviceFunction(
            learn, self._modules[-1].device, run_eagerly=model.run_eagerly
        )

    def __call__(self, batch, states, lowest=0):
        """Back-propagates one mini-batch.

        Args:
            batch: tuple `(x, y, sample_weight)`.
            states: list of K lists of tensors, as in `recording.PlayRecord`, or
                of empty lists for the current state.
            lowest: int, the number, from 0, of the lowest module to compute
                gradients for.

        Returns:
            Tuple `(loss, gradients, deltas)`: scalar tensor, the loss f with
            those of all layers; for each module the list of tensors ∇_k f; and
            for each the `ErrorGradient` ∂f/∂h_k of its output. Gradients and
            deltas are multiplied by the module's loss scale, and `None` below
            `lowest` and where none exist.
        """
        x, y, sample_weight = batch
        modules = self._modules
        features, kept, losses = modules[0].standardize(x), [], []
        for k, module in enumerate(modules[:-1]):
            made, residuals, of_layers = self._forward[k](
                module.used(features), states[k]
            )
            features = module.output(features, made)
            kept.append(residuals)
            losses.extend(of_layers)
        gradients, deltas = [None] * len(modules), [None] * len(modules)
        gradients[-1], own, of_last = self._learn(
            features, y, sample_weight, states[-1]
        )
        losses.extend(of_last)
        delta = modules[-1].sent(own)
        for k in reversed(range(lowest, len(modules) - 1)):
            module = modules[k]
            if not module.learns:
                break
            deltas[k] = delta = module.rescaled(delta)
            gradients[k], own = self._backward[k](
                kept[k], module.received(delta)
            )
            delta = module.sent(own, delta)
        with tf.device(modules[-1].device):
            loss = tf.add_n([tf.cast(loss, tf.float64) for loss in losses])
        return loss, gradients, deltas


def function_of(model, function):
    """Wraps a function to be called between iterations of a model.

    Args:
        model: algorithm.
        function: callable on nests of tensors.

    Returns:
        Callable, traced unless the model runs eagerly.
    """
    if model.run_eagerly:
        return function
    return tf.function(function, autograph=False, reduce_retracing=True)


def unscaled(module, tensors):
    """Returns gradients without loss scale, dense, at least in float32.

    Args:
        module: `fr_keras.engine.module.Module`, by whose loss scale they are
            multiplied.
        tensors: list of tensors or `None`.

    Returns:
        List of tensors or `None`.
    """
    scale = module.loss_scale
    found = []
    for tensor in tensors:
        if tensor is not None:
            tensor = _accurate(tf.convert_to_tensor(tensor))
            if scale is not None:
                tensor /= tf.cast(scale, tensor.dtype)
        found.append(tensor)
    return found


def dot(a, b):
    """Computes the inner product of two lists of tensors.

    Args:
        a: list of dense tensors or `None`.
        b: the same.

    Returns:
        Scalar tensor, float64.
    """
    return tf.add_n([tf.zeros([], tf.float64)] + [
        tf.cast(tf.reduce_sum(_accurate(x) * _accurate(y)), tf.float64)
        for x, y in zip(a, b) if x is not None and y is not None
    ])


def _accurate(tensor):
    return tensor if tensor.dtype.size >= 4 else tf.cast(tensor, tf.float32)
