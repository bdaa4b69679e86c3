"""Features Replay (Huo, Gu, Huang, NeurIPS 2018, arXiv 1807.04511)."""

import functools
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from fr_keras.algorithms.base import Algorithm
from fr_keras.delays.delay_adjustment import adjust
from fr_keras.delays.delay_policy import DelayPolicy
from fr_keras.delays.delayed_rates import DelayedRates
from fr_keras.delays.look_ahead import LookAhead
from fr_keras.engine import replayable
from fr_keras.engine.forward_backward import record
from fr_keras.engine.playing import play, replay
from fr_keras.engine.recording import Played
from fr_keras.engine.replay_queue import ReplayQueue
from fr_keras.engine.user_warnings import warn

# With more, the study found no way to back-propagation's accuracy but Muon.
_MOST_MODULES = 8


@keras.saving.register_keras_serializable("fr_keras")
class FeaturesReplay(Algorithm):
    """Trains K modules whose backward passes run at the same time.

    Back-propagation makes module k wait for the error gradient of module
    k + 1. Here every module uses the error gradient δ that it received one
    iteration ago, and recomputes the features that belong to it from a stored
    input with today's weights. Iteration t, with mini-batch t:

    1. Play: h_k^t = F_k(h_{k-1}^t; w_k^t), module after module. Every module
       keeps its input h_{k-1}^t in its replay queue.
    2. Replay, all k < K at once: h̃_k = F_k(h_{k-1}^{t-(K-k)}; w_k^t).
    3. Backward, all k at once: for k < K the vector-Jacobian product of h̃_k
       with δ_k^t, for k = K the gradient of the loss.
    4. Update of every module by its own optimizer, at learning rate γ_t.
    5. Send the gradient e_k^t with respect to the replayed input down:
       δ_{k-1}^{t+1} = e_k^t.

    δ_k^t comes, through K - k modules, from the loss of iteration t - (K-k),
    so it belongs to the very mini-batch that module k replays. A module is
    not updated before its first δ has arrived, at t = K - k.

    One graph runs `steps_per_execution` iterations. Operations of module k
    wait only for its own variables and for what its neighbours send, so
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
        model: Sequential or Functional `keras.Model`, which is split and stays
            as it is (a copy of it is trained), or a list of K modules.
        num_modules: int, K, or `None` for one module per device.
        devices: list of K device names, or `None` for the GPUs, or else the
            logical CPU devices.
        gradient_shrink: float, β: every error gradient is multiplied by it
            when it is sent down, so that module k sees its own times
            β^(K - k). Below 1 it is *gradient shrinking* ([Zhuang et al.](
            https://arxiv.org/abs/1906.09108), against delays; with 1 the
            algorithm is that of the paper.
        weight_prediction: bool, whether modules look ahead, as they do by
            default: play, replay and the last module's pass then take place
            at predicted weights, and learning rates fall with the delay.
            `False` is the algorithm of the paper, as it is written above.
        delay_policy: `fr_keras.DelayPolicy` that says how far they look ahead
            and what else depends on the delay, or `None` for its defaults.
        **kwargs: `costs` and `copy`, which say how `model` is split and what
            becomes of it (see `fr_keras.algorithms.base.Algorithm`), and the
            arguments of `keras.Model`.

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

    replays = True

    def __init__(
        self, model: keras.Model | Sequence[keras.layers.Layer],
        num_modules: int | None = None, devices: Sequence[str] | None = None,
        gradient_shrink: float = 1.0, weight_prediction: bool = True,
        delay_policy: DelayPolicy | None = None, **kwargs: Any,
    ) -> None:
        if not 0 < gradient_shrink <= 1:
            raise ValueError(
                "`gradient_shrink` must be above 0 and at most 1. "
                f"Received: {gradient_shrink=}"
            )
        if weight_prediction not in (True, False):
            raise ValueError(
                "`weight_prediction` must be True or False. "
                f"Received: {weight_prediction=}"
            )
        if delay_policy is not None and not isinstance(
            delay_policy, DelayPolicy
        ):
            raise ValueError(
                "`delay_policy` must be a fr_keras.DelayPolicy. "
                f"Received: {delay_policy=}"
            )
        if delay_policy is not None and not weight_prediction:
            raise ValueError(
                "`delay_policy` says how far to look ahead, so it needs "
                f"`weight_prediction=True`. Received: {weight_prediction=}"
            )
        super().__init__(model, num_modules, devices, **kwargs)
        self.gradient_shrink = gradient_shrink
        self.weight_prediction = bool(weight_prediction)
        self.delay_policy = delay_policy
        if self.num_modules > _MOST_MODULES:
            warn(
                f"With {self.num_modules} modules gradients are up to "
                f"{self.num_modules - 1} iterations late. In the study of "
                f"docs/results.md, more than {_MOST_MODULES} modules without "
                "normalization stayed behind back-propagation with SGD and "
                "Adam. Clip gradients, and compare with Backprop; or choose "
                "Muon, fewer modules, or an exact pipeline (fr_keras.GPipe). "
                "See docs/delays.md."
            )

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "gradient_shrink": self.gradient_shrink,
            "weight_prediction": self.weight_prediction,
            "delay_policy": self.delay_policy
            and keras.saving.serialize_keras_object(self.delay_policy),
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        # Models that were saved before there were predictions have none.
        config = {"weight_prediction": False, **config}
        if config.get("delay_policy") is not None:
            config["delay_policy"] = keras.saving.deserialize_keras_object(
                config["delay_policy"], custom_objects=custom_objects
            )
        return super().from_config(config, custom_objects)

    @property
    def _policy(self):
        """The `DelayPolicy`, or `None` where nothing is late or predicted."""
        if self.num_modules == 1 or not self.weight_prediction:
            return None
        return self.delay_policy or DelayPolicy()

    @property
    def num_warmup_steps(self) -> int:
        return self.num_modules - 1

    @property
    def delays(self) -> list[int]:
        return list(reversed(range(self.num_modules)))

    @property
    def queues(self):
        return [*map(list, zip(self._replay_queues, self._deltas)), []]

    def make_state(self):
        # Between two iterations module k keeps its inputs of K - k iterations
        # and one δ; with today's input there are K - k + 1.
        delays = range(self.num_modules - 1, 0, -1)
        self._replay_queues = [
            ReplayQueue(delay, module.device, f"inputs_{k}")
            for k, (delay, module) in enumerate(
                zip(delays, self.modules_at_work), start=1
            )
        ]
        self._deltas = [
            ReplayQueue(1, module.device, f"delta_{k}")
            for k, module in enumerate(self.modules_at_work[:-1], start=1)
        ]
        policy = self._policy
        for module, delay in zip(self.modules_at_work, self.delays):
            module.look_ahead = policy and LookAhead(module, policy, delay)
        self._rates = policy and DelayedRates(
            policy, self.delays, self.optimizer
        )

    def state_variables(self):
        keeping = [
            *self._replay_queues, *self._deltas, self._rates,
            *(module.look_ahead for module in self.modules_at_work),
        ]
        return [
            variable for one in keeping if one is not None
            for variable in one.variables
        ]

    def make_functions(self):
        modules = self.modules_at_work
        self._play = self.on_devices(
            functools.partial(play, module) for module in modules
        )
        self._replay = self.on_devices(
            functools.partial(replay, module) for module in modules
        )
        for module, graph in zip(modules, self._build_queues()):
            replayable.check(graph, module)

    def _build_queues(self):
        """Makes room for what plays keep; returns the plays' graphs."""
        if self.run_eagerly:
            return []  # The queues take what comes.
        plays_at, _ = self._rates_ahead()
        traced = self.trace_features(self._play, plays_at[:-1])
        for k, (features, kept, _) in enumerate(traced):
            self._replay_queues[k].build(kept)
            self._deltas[k].build(self.delta_spec(k, features))
        return [graph for _, _, graph in traced]

    @property
    def _all_but_last(self):
        return range(self.num_modules - 1)

    def train_steps(self, batches, age):
        queues, deltas = self._load(age)
        plays = []
        for i, batch in enumerate(batches):
            deltas, played = self._iteration(age + i, batch, queues, deltas)
            plays.append(played)
        for k in self._all_but_last:
            self._replay_queues[k].store(queues[k])
            if deltas[k] is not None:
                self._deltas[k].store([deltas[k]])
        return plays

    def _load(self, age):
        """What is kept after so many iterations: inputs, and δ_k."""
        return [
            queue.load(min(age, queue.length)) for queue in self._replay_queues
        ], [
            self._deltas[k].load(1)[0] if self._has_delta(k, age) else None
            for k in self._all_but_last
        ]

    def drain(self) -> None:
        """Lets late modules learn from all mini-batches that they have kept.

        Module k has not learned yet from the last K - k mini-batches. Here
        K - 1 iterations go without a new one, at the learning rate of now, so
        that all modules have learned from the same; what trains on begins
        with empty queues. To be called between calls of `fit`, before another
        method goes on with the weights.
        """
        age = min(self.age, self.num_warmup_steps)
        if age:
            run = self._drain
            if not self.run_eagerly:
                run = tf.function(run, autograph=False)
            run(age)
            self.age_variable.assign(0)

    def _drain(self, age):
        queues, deltas = self._load(age)
        _, replays_at = self._rates_ahead()
        learning_rate = self.optimizer.learning_rates()
        for _ in self._all_but_last:
            gradients = [None] * self.num_modules
            sent = [None] * self.num_modules
            for k in self._all_but_last:
                if deltas[k] is not None and queues[k]:
                    gradients[k], sent[k] = self._late_gradients(
                        k, queues[k].popleft(), deltas[k], replays_at[k]
                    )
            self.update(gradients, learning_rate)
            deltas = self._shrunk(sent)

    def next_update(self, k):
        """What a module will be updated with in the next iteration.

        To be called between iterations, past warm-up.

        Args:
            k: int, the number of the module, from 0, not the last.

        Returns:
            Tuple `(gradients, delta, made)`: g_k, a list of tensors, and the
            `ErrorGradient` δ_k, both multiplied by the module's loss scale,
            and `Features`, what the replay makes of h̃_k, or `None` if nothing
            is replayed.
        """
        kept, delta = self._pending(k)
        module = self.modules_at_work[k]
        x, state = kept
        _, replays_at = self._rates_ahead()
        ahead = module.look_ahead and functools.partial(
            module.look_ahead.replay, *replays_at[k]
        )
        made, _, _, backward = record(module, x, 1.0, state, ahead)
        gradients, _ = backward(module.received(delta))
        return gradients, delta, made

    def _pending(self, k):
        """What module k (from 0) will replay next, and δ_k for it."""
        queue = self._replay_queues[k]
        (delta,) = self._deltas[k].load(1)
        return (
            queue.load(queue.length)[0],
            self.modules_at_work[k].rescaled(delta),
        )

    def _has_delta(self, k, t):
        """Whether the first δ has arrived at module k (from 0) at step t."""
        return t >= self.num_modules - 1 - k

    def _iteration(self, t, batch, queues, deltas):
        """Iteration t of the algorithm.

        Args:
            t: int, the number of the iteration, or any that is past warm-up.
            batch: tuple `(x, y, sample_weight)`.
            queues: list of deques, one for each module but the last; today's
                input goes in, the replayed one comes out.
            deltas: list of `ErrorGradient`s, δ_k^t, of these modules.

        Returns:
            Tuple `(deltas, played)`: list of `ErrorGradient`s, δ_k^{t+1},
            `None` where there is none; and `Played`.
        """
        x, y, sample_weight = batch
        modules = self.modules_at_work
        if self._rates is not None:
            self._rates.note()
        plays_at, replays_at = self._rates_ahead()
        learning_rate = self.optimizer.next_learning_rate()

        features, losses, played = [modules[0].standardize(x)], [], Played()
        for k in self._all_but_last:
            used = modules[k].used(features[k])
            made, kept, own_losses, state = self._play[k](used, *plays_at[k])
            queues[k].append(kept)
            features.append(modules[k].output(features[k], made))
            losses.extend(own_losses)
            played.add(made, state)

        gradients = [None] * self.num_modules
        sent = [None] * self.num_modules
        for k in self._all_but_last:
            if self._has_delta(k, t):
                # Others wait for this module's play, nobody for its replay.
                with tf.control_dependencies(features[k + 1].tensors):
                    gradients[k], sent[k] = self._late_gradients(
                        k, queues[k].popleft(), deltas[k], replays_at[k]
                    )
        gradients[-1], sent[-1], state = self.learn(
            features[-1], y, sample_weight, losses, *replays_at[-1]
        )
        played.add(None, state)
        self.update(gradients, learning_rate)
        return self._shrunk(sent), played

    def _late_gradients(self, k, kept, delta, rates):
        """Replay and backward pass of module k (from 0).

        Args:
            k: int.
            kept: what its play kept.
            delta: `ErrorGradient`, δ_k.
            rates: list of the learning rates with which it looks ahead.

        Returns:
            Tuple of g_k, a list of tensors, and the `ErrorGradient` to be
            sent down; of `None` if the module has nothing to learn.
        """
        module = self.modules_at_work[k]
        if not module.learns:
            return None, None
        delta = module.rescaled(delta)
        gradients, own = self._replay[k](kept, module.received(delta), *rates)
        return gradients, module.sent(own, delta)

    def _rates_ahead(self):
        """The learning rates with which modules look ahead, if they do.

        Returns:
            Tuple of two lists with one list for each module: what plays and
            what replays take.
        """
        if self._rates is None:
            return [[[]] * self.num_modules] * 2
        return self._rates.ahead()

    def rates_of(self, k, learning_rate):
        if self._rates is None:
            return learning_rate
        return self._rates.of_module(k, learning_rate)

    def adjust_optimizer(self, k, optimizer, given):
        if self._policy is not None:
            adjust(optimizer, given, self._policy, self.delays[k])

    def _shrunk(self, sent):
        """β times what modules send down, δ_k for all but the last."""
        if self.gradient_shrink == 1:
            return sent[1:]
        deltas = []
        for device, delta in zip(self.devices[1:], sent[1:]):
            if delta is not None:
                with tf.device(device):
                    delta = delta._replace(tensors=[
                        None if tensor is None
                        else tensor * self.gradient_shrink
                        for tensor in delta.tensors
                    ])
            deltas.append(delta)
        return deltas
