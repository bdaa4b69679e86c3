"""Pipelined back-propagation over micro-batches (Huang et al., 2019)."""

import functools
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from fr_keras.algorithms.base import Algorithm
from fr_keras.algorithms.objective import all_losses
from fr_keras.algorithms.pipeline import Pipeline
from fr_keras.engine import replayable
from fr_keras.engine.device_function import DeviceFunction
from fr_keras.engine.features import ErrorGradient, Features
from fr_keras.engine.forward_backward import ForwardBackward
from fr_keras.engine.playing import replay


class MicrobatchPipeline(Pipeline):
    """One pipeline of GPipe."""

    replicates = True
    schedule = "gpipe"

    def check_data(self, x):
        for tensor in tf.nest.flatten(x):
            if not isinstance(tensor, tf.Tensor):
                raise ValueError(
                    "GPipe splits batches into micro-batches, so inputs must "
                    "be dense tensors. Convert them, or use another method. "
                    f"Received: an input of type {type(tensor).__name__}"
                )
            model = self.model
            if tensor.shape[0] % (model.num_microbatches * model.replicas):
                divisor = f"num_microbatches={model.num_microbatches}"
                if model.replicas > 1:
                    divisor += f" times replicas={model.replicas}"
                raise ValueError(
                    f"The batch size must be divisible by {divisor}. To drop "
                    "a smaller last batch, use `drop_remainder=True` in "
                    "`tf.data.Dataset.batch`. "
                    f"Received: batch_size={tensor.shape[0]}"
                )

    def make_functions(self):
        modules = self.modules
        passes = [
            ForwardBackward(module, self.model.run_eagerly, self._loss_weight)
            for module in modules
        ]
        self._forward = self.forward_functions(
            functools.partial(self._forward_microbatch, *module_and_passes)
            for module_and_passes in zip(modules, passes)
        )
        self._backward = self.backward_functions(
            functools.partial(self._backward_microbatch, *module_and_passes)
            for module_and_passes in zip(modules, passes)
        )
        self._commit_averages = self.on_devices(
            functools.partial(commit_averages, module) for module in modules
        )
        self._differentiate = DeviceFunction(
            self._loss_of_batch, self.devices[-1],
            run_eagerly=self.model.run_eagerly,
        )

    def train_steps(self, batches, rates, first_iteration):
        del rates, first_iteration
        for batch in batches:
            yield self._gradients(batch), None

    def _gradients(self, batch):
        """Runs an iteration up to the update; returns g_k of all modules."""
        modules = self.modules
        # Values kept by forward passes, their losses and new averages: a list
        # for each module, with an entry for each micro-batch.
        kept, losses, averages = [[[] for _ in modules] for _ in range(3)]
        outputs = []
        for features in self._split(modules[0].standardize(batch.x)):
            for k, forward in enumerate(self._forward):
                features, *rest = forward(features, batch.share)
                for collected, result in zip((kept, losses, averages), rest):
                    collected[k].append(result)
            outputs.append(features)
        for k, module_averages in enumerate(averages):
            self._commit_averages[k](module_averages)

        deltas, loss, batch_output = self._differentiate(
            outputs, batch.y, batch.sample_weight, batch.share
        )
        with tf.device(self.devices[-1]):
            layer_losses = [
                tf.add_n(microbatch_losses) * self._loss_weight
                for module_losses in losses
                for microbatch_losses in zip(*module_losses)
            ]
        self.learn.count(
            all_losses(loss, layer_losses), batch_output, batch
        )

        gradients = [None] * self.num_modules
        for m, delta in reversed(list(enumerate(deltas))):
            for k in reversed(range(self.num_modules)):
                if not modules[k].learns:
                    break
                gradients[k], delta = self._backward[k](
                    kept[k][m], delta, gradients[k]
                )
        return gradients

    def _split(self, features):
        """Splits features into a list with those of each micro-batch."""
        with tf.device(self.devices[0]):
            tensors = [
                tf.split(tensor, self.model.num_microbatches)
                for tensor in features.tensors
            ]
        return [
            Features(list(microbatch), features.masks)
            for microbatch in zip(*tensors)
        ]

    def _forward_microbatch(self, module, passes, x, share):
        """Runs the forward pass of one micro-batch.

        Returns:
            Tuple `(outputs, kept, losses, averages)`: `Features`, the part of
            h_k that the module computes; the values that `_backward_microbatch`
            needs; the losses of the layers; and the averages of batch
            normalization as updated by this micro-batch, a list of tensors.
        """
        if self.model.recompute:
            outputs, losses, state_updates = module.forward(x)
            state = [tf.identity(v) for v in module.replayed_state]
            kept = x, state, share
        else:
            outputs, kept, losses, state_updates = passes.stateless_forward(
                x, (), share
            )
        averages = {id(variable) for variable in module.state.averages}
        module.commit(
            [(v, new) for v, new in state_updates if id(v) not in averages]
        )
        if self.model.recompute and not self.model.run_eagerly:
            replayable.check(tf.compat.v1.get_default_graph(), module)
        return outputs, kept, losses, [
            new for v, new in state_updates if id(v) in averages
        ]

    def _backward_microbatch(self, module, passes, kept, delta, total):
        """Runs a micro-batch's backward pass; adds gradients to `total`."""
        gradients, sent = (
            replay(module, kept, delta, loss_weight=self._loss_weight)
            if self.model.recompute
            else passes.backward(kept, delta)
        )
        if total is not None:
            gradients = [add_gradients(*pair) for pair in zip(total, gradients)]
        return gradients, sent

    @property
    def _loss_weight(self):
        """Weight of layers' losses, which are averaged over micro-batches."""
        return 1 / self.model.num_microbatches

    def _loss_of_batch(self, outputs, y, sample_weight, share):
        """Computes the loss of all micro-batches together and its gradient.

        Args:
            outputs: list of `Features`, the output for each micro-batch.
            y: nest of tensors, the labels.
            sample_weight: nest of tensors or `None`.
            share: `fr_keras.batches.shards.Share`, or `None`.

        Returns:
            Tuple `(deltas, loss, batch_output)`: the `ErrorGradient` δ_K of
            each micro-batch; the loss; and `Features`, the output for the
            mini-batch.
        """
        module = self.modules[-1]
        batch_output = Features(*(
            [
                None if parts[0] is None else tf.concat(parts, 0)
                for parts in zip(*microbatches)
            ]
            for microbatches in zip(*outputs)
        ))
        sources = module.differentiated(batch_output)
        with tf.GradientTape() as tape:
            tape.watch(sources)
            loss = self.model.compute_loss(
                y=y, y_pred=module.packed(batch_output),
                sample_weight=sample_weight,
            )
        gradients = [None] * len(sources)
        if loss is not None:
            scale = 1 if module.loss_scale is None else module.loss_scale
            scale = tf.cast(scale, loss.dtype)
            if share is not None:
                scale *= share.weight(loss.dtype)
            gradients = tape.gradient(loss, sources, scale)
        split = [
            tf.split(
                tf.zeros_like(source) if gradient is None else gradient,
                self.model.num_microbatches,
            )
            for source, gradient in zip(sources, gradients)
        ]
        deltas = [
            ErrorGradient(module.spread(delta), module.loss_scale)
            for delta in zip(*split)
        ]
        return deltas, loss, batch_output


def add_gradients(a, b):
    """Adds two gradients of the same variable."""
    if isinstance(a, tf.IndexedSlices):
        return tf.IndexedSlices(
            tf.concat([a.values, b.values], 0),
            tf.concat([a.indices, b.indices], 0),
            a.dense_shape,
        )
    return None if a is None else a + b


def commit_averages(module, averages):
    """Updates the averages of batch normalization, once per mini-batch.

    Args:
        module: `fr_keras.engine.module.Module`.
        averages: list with one list of tensors for each micro-batch, the
            averages as updated by it.
    """
    module.commit(
        (variable, tf.add_n(values) / len(values))
        for variable, values in zip(module.state.averages, zip(*averages))
    )


@keras.saving.register_keras_serializable("fr_keras")
class GPipe(Algorithm):
    """Trains K modules by back-propagation of M micro-batches in a pipeline.

    Every mini-batch is split into M micro-batches, so that a module can work
    on one while its neighbours work on others. After all forward passes, the
    loss of the whole mini-batch is computed, and the backward passes follow;
    gradients are summed, and every module is updated once. K = 3, M = 4, time
    in forward passes (F: forward, R: recompute, B: backward, U: update):

    ```
    module 1   F F F F                   R B B R B B R B B R B B U
    module 2     F F F F           R B B R B B R B B R B B U
    module 3       F F F F R B B R B B R B B R B B U
    ```

    The gradients are those of back-propagation, except that batch
    normalization uses the statistics of a micro-batch. Its averages are updated
    once per mini-batch, by the mean over the micro-batches. Losses of layers
    (`add_loss`, activity regularizers) are averaged over micro-batches.

    Attributes and errors are those of `fr_keras.algorithms.base.Algorithm`.

    Args:
        model: Sequential or Functional `keras.Model` to split (a copy of it is
            trained, and `model` is not changed), or a list of K modules.
        num_modules: int, K, or `None` for one module per device.
        devices: list of K device names. `None` uses the GPUs or, without a
            GPU, the logical CPU devices.
        num_microbatches: int, M, by which the size of every batch must be
            divisible. More micro-batches reduce the share of time in which
            devices wait, (K - 1) / (M + K - 1).
        recompute: bool, whether to keep only the inputs of the modules and to
            recompute activations in the backward pass; otherwise all
            activations of all micro-batches are kept.
        **kwargs: `costs`, by which `model` is split, `copy`, whether to train a
            copy, and `replicas`, the number of pipelines (see
            `fr_keras.algorithms.base.Algorithm`), and the arguments of
            `keras.Model`.

    Example:

    ```python
    model = fr_keras.GPipe(
        fr_keras.models.resnet(20, num_classes=10), num_modules=2,
        num_microbatches=8,
    )
    model.compile("sgd", "sparse_categorical_crossentropy")
    model.fit(x_train, y_train, batch_size=128)
    ```

    Reference: [GPipe: Efficient Training of Giant Neural Networks using
    Pipeline Parallelism](https://arxiv.org/abs/1811.06965).
    """

    pipeline_class = MicrobatchPipeline

    def __init__(
        self, model: keras.Model | Sequence[keras.layers.Layer],
        num_modules: int | None = None, devices: Sequence[str] | None = None,
        num_microbatches: int = 4, recompute: bool = True, **kwargs: Any,
    ) -> None:
        if not isinstance(num_microbatches, int) or num_microbatches < 1:
            raise ValueError(
                "`num_microbatches` must be an integer, at least 1. "
                f"Received: {num_microbatches=}"
            )
        super().__init__(model, num_modules, devices, **kwargs)
        self.num_microbatches = num_microbatches
        self.recompute = recompute

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "num_microbatches": self.num_microbatches,
            "recompute": self.recompute,
        }
