"""Functions of a module from boundary to boundary.

A device function takes what its module uses and gives what its module makes.
Here is the rest: tensors that only pass a module by are led around it, so that
nothing copies them to its device or waits for them; and error gradients are
brought to the module's own loss scale.
"""


def lead_forward(module, function, features, *args):
    """Calls a forward pass with all of h_{k-1}.

    Args:
        module: `fr_keras.engine.module.Module`.
        function: callable that takes the used part of h_{k-1}, `Features`, and
            more; and returns what the module makes of h_k, and more.
        features: `Features`, h_{k-1}.
        *args: of the function.

    Returns:
        Tuple of `Features`, h_k, and what else the function returns.
    """
    made, *rest = function(module.used(features), *args)
    return module.output(features, made), *rest


def lead_backward(module, function, delta):
    """Calls a backward pass with all of δ_k.

    Args:
        module: `fr_keras.engine.module.Module`.
        function: callable that takes the part of δ_k that belongs to what the
            module makes, a list of tensors; and returns g_k and the
            `ErrorGradient` of the used part of h_{k-1}.
        delta: `ErrorGradient`, δ_k.

    Returns:
        Tuple `(gradients, sent)`: g_k, a list of tensors, and e_k, an
        `ErrorGradient`; both `None` if the module has nothing to learn.
    """
    if not module.learns:
        return None, None
    delta = module.rescaled(delta)
    gradients, own = function(module.received(delta))
    return gradients, module.sent(own, delta)


class ForwardFunction:
    """A forward pass, from h_{k-1} to h_k.

    Args:
        module: `fr_keras.engine.module.Module`.
        function: `fr_keras.engine.device_function.DeviceFunction` that takes
            the used part of h_{k-1}, `Features`, and more; and returns what the
            module makes of h_k, `Features`, and more.
    """

    def __init__(self, module, function):
        self._module = module
        self._function = function

    def __call__(self, features, *args):
        """Returns h_k, of h_{k-1}, and what else the function returns."""
        return lead_forward(self._module, self._function, features, *args)

    def trace(self, features, *args):
        """Traces the function, for calls to come.

        Args:
            features: `Features` of `tf.TensorSpec`, h_{k-1}.
            *args: nests of `tf.TensorSpec`.

        Returns:
            Tuple `(outputs, graph)`: what a call returns, as `tf.TensorSpec`;
            and the `tf.Graph`.
        """
        def function(used, *args):
            outputs, graph = self._function.trace(used, *args)
            return *outputs, graph

        *outputs, graph = lead_forward(self._module, function, features, *args)
        return outputs, graph


class BackwardFunction:
    """A backward pass, from δ_k to e_k.

    Args:
        module: `fr_keras.engine.module.Module`.
        function: `fr_keras.engine.device_function.DeviceFunction` that takes
            what a forward pass kept, the part of δ_k that belongs to what the
            module makes (a list of tensors), and more; and returns g_k and the
            `ErrorGradient` of the used part of h_{k-1}.
    """

    def __init__(self, module, function):
        self._module = module
        self._function = function

    def __call__(self, kept, delta, *args):
        """Runs the backward pass.

        Args:
            kept: what a forward pass has kept.
            delta: `ErrorGradient`, δ_k.
            *args: of the function.

        Returns:
            Tuple `(gradients, sent)`: g_k, a list of tensors, and e_k, an
            `ErrorGradient`; both `None` if the module has nothing to learn.
        """
        return lead_backward(
            self._module,
            lambda received: self._function(kept, received, *args), delta,
        )
