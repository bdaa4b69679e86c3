"""Features Replay of micro-batches, sent while others are computed."""

import functools

import tensorflow as tf

from fr_keras.algorithms.microbatches import (
    add_to,
    check_divisible,
    commit_averages,
    commit_others,
    first_of,
    loss_of_batch,
    mean_losses,
    split_features,
    split_nest,
)
from fr_keras.algorithms.objective import all_losses, check_not_masked
from fr_keras.algorithms.replay_pipeline import (
    FeaturesReplayPipeline,
    choose,
    zero_delta,
)
from fr_keras.engine import placement
from fr_keras.engine.device_function import DeviceFunction
from fr_keras.engine.playing import replay


class PiecewiseReplayPipeline(FeaturesReplayPipeline):
    """One pipeline of Features Replay in which modules work on micro-batches.

    A device plays a micro-batch, replays one of an earlier mini-batch, plays
    the next one, and so on, so that features and error gradients are sent while
    others are computed. Gradients are summed, and every module is updated once
    per mini-batch.
    """

    replicates = True

    divides_loss = "With `num_microbatches` above 1", "`num_microbatches=1`"

    def check_data(self, x):
        check_divisible(x, self.model)

    def make_functions(self):
        self._commit_averages = self.on_devices(
            functools.partial(commit_averages, module)
            for module in self.modules
        )
        device, eager = self.devices[-1], self.model.run_eagerly
        self._learn = DeviceFunction(
            self._learn_microbatch, device, self.uses_xla[-1], eager,
            self.number_of(self.num_modules - 1),
        )
        self._loss_of_outputs = DeviceFunction(
            functools.partial(loss_of_batch, self.model, self.modules[-1]),
            device, run_eagerly=eager,
        )
        super().make_functions()

    def make_passes(self):
        return self.forward_functions(
            functools.partial(self._play_microbatch, module)
            for module in self.modules
        ), self.backward_functions(
            functools.partial(self._replay_microbatch, module)
            for module in self.modules
        )

    def first_features(self, x):
        return self._split(x)[0]

    def entry(self, spec):
        return [spec] * self.model.num_microbatches

    def train_steps(self, batches, rates, first_iteration):
        queues, deltas = self._load(first_iteration)
        for i, (batch, (_, ahead)) in enumerate(zip(batches, rates)):
            play_ahead, replay_ahead = ahead
            gradients, sent = ([None] * self.num_modules for _ in range(2))
            features, losses = self._split(batch.x), []
            for k in self._late:
                work = _Work(self, k, queues[k], deltas[k])
                if i == 0 and not self.model.run_eagerly:
                    work.fill(first_iteration, len(batches))
                features, gradients[k], sent[k] = work(
                    features, batch.share, play_ahead[k], replay_ahead[k],
                    not self.model.run_eagerly
                    or self.has_gradient(k, first_iteration, i),
                )
                losses.append(work.losses)
            gradients[-1], sent[-1] = self._learn_all(
                features, batch, losses, replay_ahead[-1]
            )
            yield gradients, None
            deltas = self._sent_down(sent)
        self._store(queues, deltas)

    def drain_steps(self, first_iteration):
        queues, deltas = self._load(first_iteration)
        _, replay_ahead = self.rates_ahead()
        for _ in self._late:
            gradients, sent = ([None] * self.num_modules for _ in range(2))
            for k in self._late:
                if deltas[k] is None or not queues[k]:
                    continue
                sent[k] = []
                for kept, delta in zip(queues[k].popleft(), deltas[k]):
                    gradients[k], below = self._replay[k](
                        kept, delta, gradients[k], *replay_ahead[k]
                    )
                    sent[k].append(below)
            yield gradients
            deltas = self._sent_down(sent)

    def _split(self, x):
        return split_features(
            self.modules[0].standardize(x), self.model.num_microbatches,
            self.devices[0],
        )

    def _sent_down(self, sent):
        """Returns δ_k of all micro-batches for all but the last module."""
        of_each = [
            self.sent_down([
                None if of_module is None else of_module[m]
                for of_module in sent
            ])
            for m in range(self.model.num_microbatches)
        ]
        return [
            None if of_module is None else [of_one[k] for of_one in of_each]
            for k, of_module in enumerate(sent[1:])
        ]

    def _play_microbatch(self, module, x, share, *rates):
        """Plays a micro-batch; the averages are updated with the mini-batch.

        Returns:
            As `playing.play`, with the new averages in place of the state.
        """
        ahead = (
            functools.partial(module.look_ahead.play, *rates) if rates else None
        )
        outputs, losses, state_updates = module.forward(x, (), ahead)
        state, averages = commit_others(module, state_updates)
        return outputs, (x, state, share), losses, averages

    def _replay_microbatch(self, module, kept, delta, total, *rates):
        """Replays a micro-batch; adds its gradients to those of others."""
        gradients, sent = replay(
            module, kept, delta, *rates, loss_weight=self._loss_weight
        )
        return add_to(total, gradients), sent

    @property
    def _loss_weight(self):
        """Weight of a micro-batch's losses, which are averaged."""
        return 1 / self.model.num_microbatches

    def _learn_all(self, features, batch, losses_below, rates):
        """Runs the last module, micro-batch by micro-batch.

        Args:
            features: list of `Features`, its inputs.
            batch: `fr_keras.batches.shards.Shard`.
            losses_below: list with a list for each other module, of lists of
                scalar tensors, the losses of its layers for each micro-batch.
            rates: as for `Learning.differentiate`.

        Returns:
            Tuple of g_K and the list of the `ErrorGradient`s e_K.
        """
        module, count = self.modules[-1], self.model.num_microbatches
        y, sample_weight = (
            split_nest(nest, count, self.devices[-1])
            for nest in (batch.y, batch.sample_weight)
        )
        gradients, sent, latest = None, [], []
        outputs, losses, averages = [], [], []
        for x, *labels in zip(features, y, sample_weight):
            with tf.control_dependencies(latest):
                gradients, below, *results = self._learn(
                    module.used(x), *labels, batch.share, gradients, *rates
                )
            for of_all, result in zip((outputs, losses, averages), results):
                of_all.append(result)
            sent.append(module.sent(below))
            latest = first_of(outputs[-1].tensors)
        self._commit_averages[-1](averages)
        loss, output = self._loss_of_outputs(
            outputs, batch.y, batch.sample_weight
        )
        of_layers = [
            of_microbatch[loss is not None:] for of_microbatch in losses
        ]
        layer_losses = mean_losses(
            [*losses_below, of_layers], self.devices[-1]
        )
        self.learn.count(all_losses(loss, layer_losses), output, batch)
        return gradients, sent

    def _learn_microbatch(self, x, y, sample_weight, share, total, *rates):
        gradients, sent, outputs, losses, state_updates = (
            self.learn.differentiate(
                x, y, sample_weight, (), share, *rates,
                loss_weight=self._loss_weight,
            )
        )
        check_not_masked(outputs, *self.divides_loss)
        _, averages = commit_others(self.modules[-1], state_updates)
        return add_to(total, gradients), sent, outputs, losses, averages


class _Work:
    """A late module's work of one iteration.

    Args:
        pipeline: `PiecewiseReplayPipeline`.
        k: int, the number of the module, from 0.
        queue: deque of what the module has kept of mini-batches, lists with an
            entry for each micro-batch; changed in place.
        deltas: list of `ErrorGradient`s, δ_k of each micro-batch, or `None` if
            none has arrived.

    Attributes:
        losses: list with a list of the losses of layers for each micro-batch.
    """

    def __init__(self, pipeline, k, queue, deltas):
        self._pipeline = pipeline
        self._k = k
        self._queue = queue
        self._deltas = deltas
        self._arrived = None
        self.losses = []

    def fill(self, first_iteration, num_steps):
        """Lets the warm-up replay what is there, as in Features Replay.

        Args:
            first_iteration: as for `BasePipeline.train_steps`.
            num_steps: int, the number of iterations in the call.
        """
        delay = self._pipeline.delays[self._k]
        with tf.device(placement.this_host()):
            self._arrived = [
                first_iteration + j >= delay
                for j in range(min(delay, num_steps))
            ]

    def __call__(self, features, share, play_rates, replay_rates, learns):
        """Plays and replays all micro-batches.

        Args:
            features: list of `Features`, h_{k-1} of each micro-batch.
            share: `fr_keras.batches.shards.Share`, or `None`.
            play_rates: the learning rates for looking ahead in plays.
            replay_rates: those for replays.
            learns: bool, whether to replay.

        Returns:
            Tuple `(outputs, gradients, sent)`: list of `Features`, h_k; g_k, a
            list of tensors; and list of `ErrorGradient`s, e_k; both `None`
            without replays.
        """
        pipeline, k = self._pipeline, self._k
        outputs, averages, played = [], [], []
        gradients, sent, latest = None, [] if learns else None, []
        self._queue.append(played)
        for m, x in enumerate(features):
            with tf.control_dependencies(latest):
                output, kept, losses, new = pipeline._play[k](
                    x, share, *play_rates
                )
            played.append(kept)
            outputs.append(output)
            averages.append(new)
            self.losses.append(losses)
            latest = first_of(pipeline.modules[k].computed(output).tensors)
            if not learns:
                continue
            if self._arrived is not None:
                self._choose(m, kept, output)
            # Modules above wait for this play, but not for the replay.
            with tf.control_dependencies(latest):
                gradients, below = pipeline._replay[k](
                    self._queue[0][m], self._deltas[m], gradients,
                    *replay_rates,
                )
            sent.append(below)
            latest = first_of((gradients, below)) or latest
        pipeline._commit_averages[k](averages)
        if learns:
            self._queue.popleft()
        return outputs, gradients, sent

    def _choose(self, m, kept, output):
        """Replaces what has not arrived by this play, and by δ = 0."""
        chosen = functools.partial(choose, self._pipeline.devices[self._k])
        for j, has_arrived in enumerate(self._arrived):
            self._queue[j][m] = chosen(
                has_arrived, self._queue[j][m], lambda: kept
            )
        self._deltas[m] = chosen(
            self._arrived[0], self._deltas[m], functools.partial(
                zero_delta, output, self._deltas[m],
                self._pipeline.modules[-1].loss_scale,
            ),
        )
