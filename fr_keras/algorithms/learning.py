"""Learning from the loss: the last module's part of an iteration."""

import functools

import tensorflow as tf

from fr_keras.engine.device_function import DeviceFunction
from fr_keras.engine.features import Features


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
        number: int, the number of the module, from 0, for the clock.
        jit_compile: bool, whether to compile with XLA.

    Attributes:
        shard: tuple `(losses, outputs, share)`: the results for a shard of a
            mini-batch, for `count_shards`.
    """

    def __init__(self, model, module, number, jit_compile):
        self._objective = model.objective
        self._module = module
        self._learn = DeviceFunction(
            self._learn_batch, module.device, jit_compile, model.run_eagerly,
            number,
        )
        # Separate, since nothing waits for it and XLA cannot compile every
        # metric.
        self._count, self._count_shards = (
            DeviceFunction(
                function, model.devices[-1], run_eagerly=model.run_eagerly
            )
            for function in (self._count_batch, self._count_parts)
        )
        self.shard = None

    def __call__(self, x, shard, losses_below, *rates):
        """Computes the gradients of a mini-batch; updates loss and metrics.

        Args:
            x: `Features`, h_{K-1}.
            shard: `fr_keras.batches.shards.Shard`.
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
            x, shard.y, shard.sample_weight, shard.share, *rates
        )
        self.count(losses + losses_below, outputs, shard)
        return gradients, self._module.sent(sent), state

    def _learn_batch(self, x, y, sample_weight, share, *rates):
        *results, state_updates = self.differentiate(
            x, y, sample_weight, (), share, *rates
        )
        return *results, self._module.commit(state_updates)

    def differentiate(
        self, x, y, sample_weight, state=(), share=None, *rates,
        loss_weight=1.0,
    ):
        """Runs the last module forward and backward, without changing state.

        Args:
            x: `Features`, h_{K-1}.
            y: nest of tensors, the labels.
            sample_weight: nest of tensors or `None`.
            state: as for `fr_keras.engine.forward_backward.record`.
            share: `fr_keras.batches.shards.Share`, or `None`.
            *rates: as for `__call__`.
            loss_weight: float, the weight of all losses.

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
        gradients, sent = module.backward(
            tape, x, losses, loss_weight=loss_weight, share=share
        )
        return gradients, sent, outputs, losses, state_updates

    def count(self, losses, outputs, shard):
        """Adds a mini-batch to the reported loss and to the metrics.

        A shard is not added at once, but becomes the attribute `shard`.

        Args:
            losses: list of scalar tensors, all losses.
            outputs: `Features`, h_K.
            shard: `fr_keras.batches.shards.Shard`.
        """
        if shard.share is None:
            self._count(losses, shard.y, outputs, shard.sample_weight)
        else:
            self.shard = losses, outputs, shard.share

    def count_shards(self, shards, y, sample_weight):
        """Adds the shards of a mini-batch to the reported loss and the metrics.

        Args:
            shards: list of the attributes `shard` of all pipelines.
            y: nest of tensors, the labels of the whole mini-batch.
            sample_weight: nest of tensors or `None`.
        """
        self._count_shards(shards, y, sample_weight)

    def _count_batch(self, losses, y, outputs, sample_weight):
        y_pred = self._module.packed(outputs)
        self._objective.count(losses, y, y_pred, sample_weight)

    def _count_parts(self, shards, y, sample_weight):
        losses, outputs, shares = zip(*shards)
        y_pred = self._module.packed(_merged(outputs, shares))
        self._objective.count_shards(losses, shares, y, y_pred, sample_weight)


def _merged(outputs, shares):
    """Puts the outputs for shards together, without those of empty ones."""

    def merged(parts):
        if parts[0] is None:
            return None
        return tf.concat([
            part[:tf.where(share.counts(), tf.shape(part)[0], 0)]
            for part, share in zip(parts, shares)
        ], 0)

    tensors, masks = (list(map(merged, zip(*each))) for each in zip(*outputs))
    return Features(tensors, masks)
