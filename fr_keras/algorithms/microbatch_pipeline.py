"""Exact pipelines: micro-batches, in the order of a schedule."""

import contextlib
import functools

import keras
import tensorflow as tf

from fr_keras import schedules
from fr_keras.algorithms.microbatches import (
    add_to,
    check_divisible,
    commit_averages,
    commit_others,
    first_of,
    loss_of_batch,
    mean_losses,
    merged,
    split_features,
    split_nest,
)
from fr_keras.algorithms.objective import all_losses, check_not_masked
from fr_keras.algorithms.pipeline import BasePipeline
from fr_keras.engine import replayable
from fr_keras.engine.device_function import DeviceFunction
from fr_keras.engine.features import ErrorGradient
from fr_keras.engine.forward_backward import ForwardBackward
from fr_keras.engine.playing import replay
from fr_keras.schedules.work import BACKWARD, FORWARD, WEIGHTS


class MicrobatchPipeline(BasePipeline):
    """One pipeline that trains on micro-batches, exactly.

    Every device does its work in the order of the schedule: in the graph, each
    piece of work waits for the one before.
    """

    replicates = True

    @property
    def divides_loss(self):
        if self.model.schedule == "gpipe":
            return None
        # The backward pass of a micro-batch may come before the forward pass of
        # another one.
        return f"With `schedule={self.model.schedule!r}`", "`schedule='gpipe'`"

    def check_data(self, x):
        check_divisible(x, self.model)

    def make_functions(self):
        model = self.model
        order = schedules.order(
            model.schedule, self.num_modules, model.num_microbatches,
            len({*self.devices}),
        )
        self.sequence = schedules.in_sequence(order)
        self.lanes = {
            work.module: lane for lane, of_one in enumerate(order)
            for work in of_one
        }
        self.is_split = any(work.kind == WEIGHTS for work in self.sequence)
        modules_and_passes = [
            (module, ForwardBackward(
                module, model.run_eagerly, self._loss_weight
            ))
            for module in self.modules
        ]
        self.forward = self.forward_functions(
            functools.partial(self._forward_microbatch, *pair)
            for pair in modules_and_passes
        )
        self.backward = self.backward_functions(
            functools.partial(
                self._input_of_microbatch if self.is_split
                else self._backward_microbatch, *pair
            )
            for pair in modules_and_passes
        )
        self.weights = self.on_devices(
            functools.partial(self._weights_of_microbatch, passes)
            for _, passes in modules_and_passes
        )
        self.commit_averages = self.on_devices(
            functools.partial(commit_averages, module)
            for module in self.modules
        )
        self.differentiate, self.loss_of_outputs = (
            DeviceFunction(
                function, self.devices[-1], run_eagerly=model.run_eagerly
            )
            for function in (
                self._differentiate,
                functools.partial(loss_of_batch, model, self.modules[-1]),
            )
        )

    def train_steps(self, batches, rates, first_iteration):
        del rates, first_iteration
        for batch in batches:
            iteration = Iteration(self, batch)
            gradients = iteration.gradients()
            self._count(iteration, batch)
            yield gradients, None

    def _count(self, iteration, batch):
        """Adds a mini-batch to the reported loss and to the metrics."""
        if self.divides_loss:
            loss, outputs = self.loss_of_outputs(
                iteration.outputs, batch.y, batch.sample_weight
            )
        else:
            loss, outputs = iteration.loss
        layer_losses = mean_losses(iteration.losses, self.devices[-1])
        self.learn.count(all_losses(loss, layer_losses), outputs, batch)

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
        _, averages = commit_others(module, state_updates)
        if self.model.recompute and not self.model.run_eagerly:
            replayable.check(tf.compat.v1.get_default_graph(), module)
        return outputs, kept, losses, averages

    def _backward_microbatch(self, module, passes, kept, delta, total):
        """Runs a micro-batch's backward pass; adds gradients to `total`."""
        gradients, sent = (
            replay(module, kept, delta, loss_weight=self._loss_weight)
            if self.model.recompute
            else passes.backward(kept, delta)
        )
        return add_to(total, gradients), sent

    def _input_of_microbatch(self, module, passes, kept, delta):
        """Computes what the module below waits for, and what is kept."""
        if self.model.recompute:
            x, state, share = kept
            _, kept, _, _ = passes.stateless_forward(x, state, share)
        return passes.backward_of_input(kept, delta)

    def _weights_of_microbatch(self, passes, kept, total):
        """Computes the gradients of weights; adds them to `total`."""
        return add_to(total, passes.backward_of_weights(kept))

    @property
    def _loss_weight(self):
        """Weight of layers' losses, which are averaged over micro-batches."""
        return 1 / self.model.num_microbatches

    def _differentiate(self, outputs, y, sample_weight, share):
        """Computes the loss of micro-batches and its gradient.

        Args:
            outputs: list of `Features`, the output for each micro-batch.
            y: nest of tensors, the labels of all of them.
            sample_weight: nest of tensors or `None`.
            share: `fr_keras.batches.shards.Share`, or `None`.

        Returns:
            Tuple `(deltas, loss, output)`: the `ErrorGradient` δ_K of each
            micro-batch; the loss; and `Features`, the output for all.
        """
        module = self.modules[-1]
        output = merged(outputs)
        sources = module.differentiated(output)
        with tf.GradientTape() as tape, contextlib.ExitStack() as stack:
            tape.watch(sources)
            if self.divides_loss:
                check_not_masked(output, *self.divides_loss)
                # The losses of single outputs are counted for the whole batch.
                stack.enter_context(keras.StatelessScope())
            loss = self.model.compute_loss(
                y=y, y_pred=module.packed(output), sample_weight=sample_weight,
            )
        gradients = [None] * len(sources)
        if loss is not None:
            scale = 1 if module.loss_scale is None else module.loss_scale
            scale = tf.cast(scale, loss.dtype)
            scale *= len(outputs) / self.model.num_microbatches
            if share is not None:
                scale *= share.weight(loss.dtype)
            gradients = tape.gradient(loss, sources, scale)
        split = [
            tf.split(
                tf.zeros_like(source) if gradient is None else gradient,
                len(outputs),
            )
            for source, gradient in zip(sources, gradients)
        ]
        deltas = [
            ErrorGradient(module.spread(delta), module.loss_scale)
            for delta in zip(*split)
        ]
        return deltas, loss, output


class Iteration:
    """The work of an iteration.

    Args:
        pipeline: `MicrobatchPipeline`.
        batch: `fr_keras.batches.shards.Shard`.

    Attributes:
        outputs: list of `Features`, h_K of each micro-batch.
        losses: list of K lists with a list of scalar tensors for each
            micro-batch, the losses of the modules' layers.
        loss: list of the loss and the output for the whole batch, if the loss
            was computed at once, otherwise `None`.
    """

    def __init__(self, pipeline, batch):
        self._pipeline = pipeline
        self._batch = batch
        count = pipeline.model.num_microbatches
        # What the next module takes.
        self._features = split_features(
            pipeline.modules[0].standardize(batch.x), count,
            pipeline.devices[0],
        )
        every_module = range(pipeline.num_modules)
        # What passes keep until the next work on the same micro-batch.
        self._kept = [{} for _ in every_module]
        self._averages, self.losses = (
            [[] for _ in every_module] for _ in range(2)
        )
        self._deltas = {}
        self._gradients = [None for _ in every_module]
        # Of the latest work in each lane, for the next to wait for.
        self._latest = [[] for _ in every_module]
        self.outputs = self._features
        self.loss = None
        if pipeline.divides_loss:
            self._labels = list(zip(*(
                split_nest(nest, count, pipeline.devices[-1])
                for nest in (batch.y, batch.sample_weight)
            )))

    def gradients(self):
        """Runs all work up to the update; returns g_k of all modules."""
        work_of_kind = {
            FORWARD: self._forward, BACKWARD: self._backward,
            WEIGHTS: self._weights,
        }
        for kind, k, m in self._pipeline.sequence:
            lane = self._pipeline.lanes[k]
            with tf.control_dependencies(self._latest[lane]):
                results = work_of_kind[kind](k, m)
            self._latest[lane] = first_of(results)
        return self._gradients

    def _forward(self, k, m):
        pipeline = self._pipeline
        self._features[m], kept, losses, averages = pipeline.forward[k](
            self._features[m], self._batch.share
        )
        self._kept[k][m] = kept
        self.losses[k].append(losses)
        self._averages[k].append(averages)
        if len(self._averages[k]) == pipeline.model.num_microbatches:
            pipeline.commit_averages[k](self._averages[k])
        return kept, losses, averages, pipeline.modules[k].computed(
            self._features[m]
        )

    def _backward(self, k, m):
        pipeline = self._pipeline
        if k == pipeline.num_modules - 1 and m not in self._deltas:
            self._differentiate(m)
        delta = self._deltas[m]
        kept = self._kept[k].pop(m)
        if delta is None or not pipeline.modules[k].learns:
            self._deltas[m] = None
            return None
        total = () if pipeline.is_split else (self._gradients[k],)
        result, self._deltas[m] = pipeline.backward[k](kept, delta, *total)
        if pipeline.is_split:
            self._kept[k][m] = result
        else:
            self._gradients[k] = result
        return result

    def _weights(self, k, m):
        if m in self._kept[k]:
            self._gradients[k] = self._pipeline.weights[k](
                self._kept[k].pop(m), self._gradients[k]
            )
        return self._gradients[k]

    def _differentiate(self, m):
        """Computes δ_K of a micro-batch, or of all if these are needed."""
        pipeline, batch = self._pipeline, self._batch
        if pipeline.divides_loss:
            (self._deltas[m],), _, _ = pipeline.differentiate(
                [self._features[m]], *self._labels[m], batch.share
            )
        else:
            deltas, *self.loss = pipeline.differentiate(
                self._features, batch.y, batch.sample_weight, batch.share
            )
            self._deltas = dict(enumerate(deltas))
