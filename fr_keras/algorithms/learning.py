"""Learning from the loss: the last module's part of an iteration."""

import functools

import tensorflow as tf

from fr_keras.engine.device_function import DeviceFunction


class Learning:
    """Runs the last module's part of an iteration, shared by all methods.

    That is the forward pass, loss, backward pass and metrics. In all methods,
    gradients and update are two separate functions on purpose. In a single
    function, the update of a weight could run before the computation of e_k,
    which reads it: TensorFlow's dependency optimizer assumes that the IdentityN
    through which Keras passes all gradients orders the two, drops the control
    edge between them, and then splits the IdentityN.

    Args:
        model: `fr_keras.algorithms.base.Algorithm`.
        module: `fr_keras.engine.module.Module`, the last one.
        num_modules: int, K.
        jit_compile: bool, whether to compile with XLA.
    """

    def __init__(self, model, module, num_modules, jit_compile):
        self._objective = model.objective
        self._module = module
        self._learn = DeviceFunction(
            self._learn_batch, module.device, jit_compile, model.run_eagerly,
            num_modules - 1,
        )
        # Separate, since nothing waits for it and XLA cannot compile every
        # metric.
        self._count = DeviceFunction(
            self._count_batch, module.device, run_eagerly=model.run_eagerly
        )

    def __call__(self, x, y, sample_weight, losses_below, *rates):
        """Computes the gradients of a mini-batch; updates loss and metrics.

        Args:
            x: `Features`, h_{K-1}.
            y: nest of tensors, the labels.
            sample_weight: nest of tensors or `None`.
            losses_below: list of scalar tensors, the losses of the layers of
                the other modules, which are reported but not differentiated.
            *rates: the learning rates with which the last module looks ahead,
                if it does: see `fr_keras.delays.look_ahead.LookAhead.replay`.

        Returns:
            Tuple `(gradients, sent, state)`: g_K, a list of tensors; e_K, the
            `ErrorGradient` of `x`; and the updated state, as returned by
            `Module.commit`.
        """
        gradients, sent, outputs, losses, state = self._learn(
            x, y, sample_weight, *rates
        )
        self.count(losses + losses_below, y, outputs, sample_weight)
        return gradients, self._module.sent(sent), state

    def _learn_batch(self, x, y, sample_weight, *rates):
        *results, state_updates = self.differentiate(
            x, y, sample_weight, (), *rates
        )
        return *results, self._module.commit(state_updates)

    def differentiate(self, x, y, sample_weight, state=(), *rates):
        """Runs the last module forward and backward, without changing state.

        Args:
            x: `Features`, h_{K-1}.
            y: nest of tensors, the labels.
            sample_weight: nest of tensors or `None`.
            state: as for `fr_keras.engine.forward_backward.record`.
            *rates: as for `__call__`.

        Returns:
            Tuple `(gradients, sent, outputs, losses, state_updates)`: as
            returned by `Module.backward` and `Module.forward`, with the loss of
            `compile` as the first of the losses.
        """
        module = self._module
        with tf.GradientTape() as tape:
            module.watch(tape, x)
            outputs, losses, state_updates = module.forward(
                x, zip(module.replayed_state, state),
                functools.partial(module.look_ahead.replay, *rates)
                if rates else None,
            )
            losses = self._objective.losses(
                y, module.packed(outputs), sample_weight, losses
            )
        gradients, sent = module.backward(tape, x, losses)
        return gradients, sent, outputs, losses, state_updates

    def count(self, losses, y, outputs, sample_weight):
        """Adds a mini-batch to the reported loss and to the metrics.

        Args:
            losses: list of scalar tensors, all losses.
            y: nest of tensors, the labels.
            outputs: `Features`, h_K.
            sample_weight: nest of tensors or `None`.
        """
        self._count(losses, y, outputs, sample_weight)

    def _count_batch(self, losses, y, outputs, sample_weight):
        y_pred = self._module.packed(outputs)
        self._objective.count(losses, y, y_pred, sample_weight)
