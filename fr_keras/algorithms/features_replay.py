"""Features Replay (Huo, Gu, Huang, NeurIPS 2018, arXiv 1807.04511)."""

import functools

import keras
import tensorflow as tf

from fr_keras.algorithms.delayed import DelayedAlgorithm, DelayedPipeline
from fr_keras.engine import placement, replayable, structures
from fr_keras.engine.features import ErrorGradient
from fr_keras.engine.forward_backward import record
from fr_keras.engine.playing import play, replay
from fr_keras.engine.recording import PlayRecord
from fr_keras.engine.replay_queue import ReplayQueue


class FeaturesReplayPipeline(DelayedPipeline):
    """One pipeline of Features Replay.

    The steps are those of `FeaturesReplay`.
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
        modules = self.modules
        self._play = self.forward_functions(
            functools.partial(play, module) for module in modules
        )
        self._replay = self.backward_functions(
            functools.partial(replay, module) for module in modules
        )
        for module, graph in zip(modules, self._build_queues()):
            replayable.check(graph, module)

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
            self._replay_queues[k].build(kept)
            self._deltas[k].build(self.delta_spec(k, features))
        return [graph for _, _, graph in traced]

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
            choose = functools.partial(_choose, self.devices[k])
            with tf.device(placement.this_host()):
                have_arrived = [
                    first_iteration + j >= delay for j in range(delay)
                ]
            for j, has_arrived in enumerate(have_arrived[:num_steps]):
                queues[k][j] = choose(
                    has_arrived, queues[k][j], queues[k][-1]
                )
            zero = ErrorGradient([
                None if delta is None else tf.zeros_like(tensor)
                for tensor, delta in zip(
                    features[k + 1].tensors, deltas[k].tensors
                )
            ], scale)
            deltas[k] = choose(have_arrived[0], deltas[k], zero)

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


def _choose(device, condition, a, b):
    """Returns one of two nests of the same structure, on a device."""
    with tf.device(device):
        chosen = tf.cond(
            condition,
            lambda: structures.flatten(a),
            lambda: structures.flatten(b),
        )
    return structures.pack(a, chosen)


@keras.saving.register_keras_serializable("fr_keras")
class FeaturesReplay(DelayedAlgorithm):
    """Trains K modules whose backward passes run in parallel.

    Back-propagation makes module k wait for the error gradient of module
    k + 1. Here every module uses the error gradient δ that it received one
    iteration ago, and recomputes the matching features from a stored input
    with the current weights. Iteration t, with mini-batch t:

    1. Play: h_k^t = F_k(h_{k-1}^t; w_k^t), module after module. Every module
       keeps its input h_{k-1}^t in its replay queue.
    2. Replay, all k < K at once: h̃_k = F_k(h_{k-1}^{t-(K-k)}; w_k^t).
    3. Backward, all k at once: for k < K the vector-Jacobian product of h̃_k
       with δ_k^t, for k = K the gradient of the loss.
    4. Update every module with its own optimizer, at learning rate γ_t.
    5. Send the gradient e_k^t with respect to the replayed input down:
       δ_{k-1}^{t+1} = e_k^t.

    δ_k^t comes, through K - k modules, from the loss of iteration t - (K-k),
    so it belongs to the same mini-batch that module k replays. A module is
    not updated until its first δ has arrived, at t = K - k.

    One graph runs `steps_per_execution` iterations. Operations of module k
    wait only for its own variables and for data from its neighbours, so
    iterations overlap. K = 4, time in forward passes (P: play, R: replay,
    B: backward and update):

    ```
    module 1   P R B B P R B B P R B B
    module 2     P R B B P R B B P R B B
    module 3       P R B B P R B B P R B B
    module 4         P B B   P B B   P B B
    ```

    Attributes and errors are those of `fr_keras.algorithms.base.Algorithm`.

    Args:
        model: Sequential or Functional `keras.Model` to split (a copy of it is
            trained, and `model` is not changed), or a list of K modules.
        num_modules: int, K, or `None` for one module per device.
        devices: list of K device names. `None` uses the GPUs or, without a
            GPU, the logical CPU devices.
        gradient_shrink: float, β, by which every error gradient is multiplied
            when it is sent down, so that module k sees its own times
            β^(K - k). Below 1 it is *gradient shrinking* ([Zhuang et al.](
            https://arxiv.org/abs/1906.09108)), a remedy for delays; 1 is the
            algorithm of the paper.
        weight_prediction: bool, whether modules look ahead. If `True`, the
            default, play, replay and the last module's pass use predicted
            weights, and learning rates decrease with the delay. `False` is the
            algorithm of the paper, as described above.
        delay_policy: `fr_keras.DelayPolicy`, which sets how far they look ahead
            and other settings that depend on the delay, or `None` for its
            defaults.
        **kwargs: `costs`, by which `model` is split, `copy`, whether to train a
            copy, `replicas`, the number of pipelines, and `link_dtype` (see
            `fr_keras.algorithms.base.Algorithm`), and the arguments of
            `keras.Model`.

    Example:

    ```python
    model = fr_keras.FeaturesReplay(
        fr_keras.models.resnet(20, num_classes=10), num_modules=2
    )
    model.compile(
        keras.optimizers.SGD(0.1, momentum=0.9),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        steps_per_execution=8,
    )
    model.fit(x_train, y_train, batch_size=128, epochs=10)
    ```

    Reference: Algorithm 1 and equations (6)-(7) of
    [Training Neural Networks Using Features Replay](
    https://arxiv.org/abs/1807.04511).
    """

    pipeline_class = FeaturesReplayPipeline
    schedule = "features_replay"

    def drain(self) -> None:
        """Lets late modules learn from all mini-batches in their queues.

        Module k has not learned yet from the last K - k mini-batches. This
        runs K - 1 iterations without a new mini-batch, at the current learning
        rate, so that all modules have learned from the same mini-batches;
        further training starts with empty queues. Call it between calls of
        `fit`, before another method continues with the weights.
        """
        self.training.drain()
