"""A module's forward and backward passes, from boundary to boundary.

A device function takes only the inputs that its module uses and returns only
the outputs that it computes. The functions of this file do the rest: they route
pass-through tensors around the module, so that these are neither copied to its
device nor waited for, and rescale error gradients to the module's loss scale.
"""

import tensorflow as tf


def route_forward(module, function, features, *args):
    """Runs a forward pass on all of h_{k-1}.

    Args:
        module: `fr_keras.engine.module.Module`.
        function: callable that takes the used part of h_{k-1}, `Features`, and
            further arguments; and returns the part of h_k that the module
            computes, and further results.
        features: `Features`, h_{k-1}.
        *args: further arguments of `function`.

    Returns:
        Tuple of `Features`, h_k, and the further results of `function`.
    """
    outputs, *rest = function(module.used(features), *args)
    return module.output(features, outputs), *rest


def route_backward(module, function, delta):
    """Runs a backward pass on all of δ_k.

    Args:
        module: `fr_keras.engine.module.Module`.
        function: callable that takes δ_k for the outputs that the module
            computes, a list of tensors; and returns g_k and the
            `ErrorGradient` of the used part of h_{k-1}.
        delta: `ErrorGradient`, δ_k.

    Returns:
        Tuple `(gradients, sent)`: g_k, a list of tensors, and e_k, an
        `ErrorGradient`; both `None` if the module has nothing to learn.
    """
    if not module.learns:
        return None, None
    delta = module.rescaled(delta)
    gradients, input_gradient = function(module.received(delta))
    return gradients, module.sent(input_gradient, delta)


class ForwardFunction:
    """A forward pass, from h_{k-1} to h_k.

    Args:
        module: `fr_keras.engine.module.Module`.
        function: `fr_keras.engine.device_function.DeviceFunction` that takes
            the used part of h_{k-1}, `Features`, and further arguments; and
            returns the part of h_k that the module computes, `Features`, and
            further results.
    """

    def __init__(self, module, function):
        self._module = module
        self._function = function

    def __call__(self, features, *args):
        """Returns h_k, given h_{k-1}, and the function's further results."""
        return route_forward(self._module, self._function, features, *args)

    def trace(self, features, *args):
        """Traces the function for later calls.

        Args:
            features: `Features` of `tf.TensorSpec`, h_{k-1}.
            *args: nests of `tf.TensorSpec`.

        Returns:
            Tuple `(outputs, graph)`: the results of a call, as `tf.TensorSpec`;
            and the `tf.Graph`.
        """
        def function(used, *args):
            (computed, *rest), graph = self._function.trace(used, *args)
            # (Tensors of that graph could not be cast in this one.)
            specs = computed._replace(tensors=[
                tf.TensorSpec.from_tensor(tensor)
                if isinstance(tensor, tf.Tensor) else tensor
                for tensor in computed.tensors
            ])
            return specs, *rest, graph

        *outputs, graph = route_forward(self._module, function, features, *args)
        return outputs, graph


class BackwardFunction:
    """A backward pass, from δ_k to e_k.

    Args:
        module: `fr_keras.engine.module.Module`.
        function: `fr_keras.engine.device_function.DeviceFunction` that takes
            the values kept by a forward pass, δ_k for the outputs that the
            module computes (a list of tensors), and further arguments; and
            returns g_k and the `ErrorGradient` of the used part of h_{k-1}.
    """

    def __init__(self, module, function):
        self._module = module
        self._function = function

    def __call__(self, kept, delta, *args):
        """Runs the backward pass.

        Args:
            kept: the values kept by a forward pass.
            delta: `ErrorGradient`, δ_k.
            *args: further arguments of the function.

        Returns:
            Tuple `(gradients, sent)`: g_k, a list of tensors, and e_k, an
            `ErrorGradient`; both `None` if the module has nothing to learn.
        """
        return route_backward(
            self._module,
            lambda received: self._function(kept, received, *args), delta,
        )
