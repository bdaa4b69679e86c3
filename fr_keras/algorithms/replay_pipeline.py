"""A pipeline of Features Replay: the algorithm of the paper, step by step."""

import functools

import tensorflow as tf

from fr_keras.algorithms.delayed import DelayedPipeline
from fr_keras.engine import placement, replayable, structures
from fr_keras.engine.features import ErrorGradient
from fr_keras.engine.forward_backward import record
from fr_keras.engine.playing import play, replay
from fr_keras.engine.recording import PlayRecord
from fr_keras.engine.replay_queue import ReplayQueue


class FeaturesReplayPipeline(DelayedPipeline):
    """One pipeline of Features Replay.

    The steps are those of `fr_keras.FeaturesReplay`.
    """

    replicates = True
    replays = True

    @property
    def queues(self):
        return [*map(list, zip(self._replay_queues, self._deltas)), []]

    def make_state(self):
        super().make_state()
        # Between two iterations module k keeps its inputs of K - k iterations
        # and one δ; with the current input there are K - k + 1.
        late = list(enumerate(zip(self.delays, self.devices[:-1]), start=1))
        self._replay_queues = [
            ReplayQueue(delay, device, f"inputs_{k}")
            for k, (delay, device) in late
        ]
        self._deltas = [
            ReplayQueue(1, device, f"delta_{k}") for k, (_, device) in late
        ]

    def state_variables(self):
        kept = [
            variable for queue in [*self._replay_queues, *self._deltas]
            for variable in queue.variables
        ]
        return kept + super().state_variables()

    def make_functions(self):
        self._play, self._replay = self.make_passes()
        for module, graph in zip(self.modules, self._build_queues()):
            replayable.check(graph, module)

    def make_passes(self):
        """Returns the modules' functions for plays and for replays (hook)."""
        return self.forward_functions(
            functools.partial(play, module) for module in self.modules
        ), self.backward_functions(
            functools.partial(replay, module) for module in self.modules
        )

    def _build_queues(self):
        """Allocates the queues of the modules; returns the graphs of plays."""
        if self.model.run_eagerly:
            return []  # The queues accept anything.
        play_ahead, _ = self.rates_ahead()
        share = self.share_spec()
        traced = self.trace_features(
            self._play, [(share, *rates) for rates in play_ahead[:-1]]
        )
        for k, (features, kept, _) in enumerate(traced):
            self._replay_queues[k].build(self.entry(kept))
            self._deltas[k].build(self.entry(self.delta_spec(k, features)))
        return [graph for _, _, graph in traced]

    def entry(self, spec):
        """Returns the spec of an entry of a queue (hook).

        Args:
            spec: nest of `tf.TensorSpec`, what a function takes or returns.
        """
        return spec

    def train_steps(self, batches, rates, first_iteration):
        queues, deltas = self._load(first_iteration)
        for i, (batch, (_, ahead)) in enumerate(zip(batches, rates)):
            play_ahead, replay_ahead = ahead
            features, losses = [self.modules[0].standardize(batch.x)], []
            gradients, sent = ([None] * self.num_modules for _ in range(2))
            play_record = PlayRecord()

            for k in self._late:  # 1. Play.
                output, kept, layer_losses, state = self._play[k](
                    features[k], batch.share, *play_ahead[k]
                )
                queues[k].append(kept)
                features.append(output)
                losses.extend(layer_losses)
                play_record.add(self.modules[k].computed(output), state)
            if i == 0:
                with tf.name_scope("warm_up"):
                    self._fill(
                        first_iteration, len(batches), features, queues, deltas
                    )
            for k in self._late:  # 2. Replay. 3. Backward.
                if self.model.run_eagerly and not self.has_gradient(
                    k, first_iteration, i
                ):
                    continue
                # Modules above wait for this play, but not for the replay.
                with tf.control_dependencies(play_record.outputs[k].tensors):
                    gradients[k], sent[k] = self._replay[k](
                        queues[k].popleft(), deltas[k], *replay_ahead[k]
                    )
            gradients[-1], sent[-1], state = self.learn(
                features[-1], batch, losses, *replay_ahead[-1]
            )
            play_record.add(None, state)
            yield gradients, play_record  # 4. Update.
            deltas = self.sent_down(sent)  # 5. Send.
        self._store(queues, deltas)

    def _fill(self, first_iteration, num_steps, features, queues, deltas):
        """Fills queues during warm-up, so that one graph serves all calls.

        In place of mini-batches before the first one, modules replay the first
        mini-batch of the call with δ = 0. The results are not used: see
        `has_gradient`. Eager execution does not need this.

        Args:
            first_iteration: as for `train_steps`.
            num_steps: int, the number of iterations in this call.
            features: list of K `Features`, h_{k-1} of the first iteration.
            queues: list of deques with the first iteration's input at the end,
                changed in place.
            deltas: list of `ErrorGradient`s, changed in place.
        """
        if self.model.run_eagerly:
            return
        scale = self.modules[-1].loss_scale
        for k, delay in zip(self._late, self.delays):
            chosen = functools.partial(choose, self.devices[k])
            with tf.device(placement.this_host()):
                have_arrived = [
                    first_iteration + j >= delay for j in range(delay)
                ]
            for j, has_arrived in enumerate(have_arrived[:num_steps]):
                queues[k][j] = chosen(
                    has_arrived, queues[k][j], lambda k=k: queues[k][-1]
                )
            deltas[k] = chosen(
                have_arrived[0], deltas[k], functools.partial(
                    zero_delta, features[k + 1], deltas[k], scale
                ),
            )

    def drain_steps(self, first_iteration):
        """Lets modules learn from all inputs in their queues.

        Args:
            first_iteration: as for `train_steps`.

        Yields:
            List of K lists of tensors, g_k, or `None`.
        """
        queues, deltas = self._load(first_iteration)
        _, replay_ahead = self.rates_ahead()
        for _ in self._late:
            gradients, sent = ([None] * self.num_modules for _ in range(2))
            for k in self._late:
                if deltas[k] is not None and queues[k]:
                    gradients[k], sent[k] = self._replay[k](
                        queues[k].popleft(), deltas[k], *replay_ahead[k]
                    )
            yield gradients
            deltas = self.sent_down(sent)

    @property
    def _late(self):
        """The numbers, from 0, of the modules whose gradients are late."""
        return range(self.num_modules - 1)

    def _load(self, first_iteration):
        """Loads the inputs and δ_k stored before iteration `first_iteration`.

        If this is a tensor, loads as many as after warm-up.
        """
        if tf.is_tensor(first_iteration):
            first_iteration = self.num_modules
        return [
            queue.load(min(first_iteration, queue.length))
            for queue in self._replay_queues
        ], [
            self._deltas[k].load(1)[0]
            if self.has_gradient(k, first_iteration, 0) else None
            for k in self._late
        ]

    def _store(self, queues, deltas):
        """Stores inputs and δ_k for the next call."""
        for k in self._late:
            self._replay_queues[k].store(queues[k])
            if deltas[k] is not None:
                self._deltas[k].store([deltas[k]])

    def next_update(self, k):
        """Computes the gradients of a module's next update.

        Call it between iterations, after warm-up.

        Args:
            k: int, the number of the module, from 0, not the last.

        Returns:
            Tuple `(gradients, delta, outputs)`: g_k, a list of tensors, and
            the `ErrorGradient` δ_k, both multiplied by the module's loss scale,
            and `Features`, the part of h̃_k that the replay computes, or `None`
            if nothing is replayed.
        """
        kept, delta = self._pending(k)
        module = self.modules[k]
        x, state, share = kept
        _, replay_ahead = self.rates_ahead()
        ahead = module.look_ahead and functools.partial(
            module.look_ahead.replay, *replay_ahead[k]
        )
        outputs, _, _, backward = record(
            module, x, 1.0, state, ahead, share
        )
        gradients, _ = backward(module.received(delta))
        return gradients, delta, outputs

    def _pending(self, k):
        """Returns the input that module k (from 0) replays next, and δ_k."""
        queue = self._replay_queues[k]
        (delta,) = self._deltas[k].load(1)
        return (
            queue.load(queue.length)[0],
            self.modules[k].rescaled(delta),
        )


def choose(device, condition, nest, otherwise):
    """Returns one of two nests of the same structure, on a device.

    Args:
        device: full device name.
        condition: scalar bool tensor.
        nest: nest of tensors, returned if the condition holds.
        otherwise: callable that returns the other nest, called on the device.
    """
    with tf.device(device):
        chosen = tf.cond(
            condition,
            lambda: structures.flatten(nest),
            lambda: structures.flatten(otherwise()),
        )
    return structures.pack(nest, chosen)


def zero_delta(features, delta, scale):
    """Returns an `ErrorGradient` of features that is 0 where `delta` is one."""
    return ErrorGradient([
        None if gradient is None else tf.zeros_like(tensor)
        for tensor, gradient in zip(features.tensors, delta.tensors)
    ], scale)
