"""Decoupled parallel backpropagation (Huo, Gu, Yang, Huang, ICML 2018)."""

import collections
from collections.abc import Sequence
from typing import Any

import keras

from fr_keras.algorithms.features_replay import FeaturesReplay
from fr_keras.algorithms.replay_pipeline import FeaturesReplayPipeline
from fr_keras.delays.delay_policy import DelayPolicy
from fr_keras.engine.forward_backward import ForwardBackward


class DDGPipeline(FeaturesReplayPipeline):
    """One pipeline of DDG: queues hold residuals in place of inputs."""

    replicates = True
    replays = False

    def make_state(self):
        super().make_state()
        if self.model.run_eagerly:
            self._replay_queues = [
                _EagerQueue(queue.length) for queue in self._replay_queues
            ]

    def make_functions(self):
        passes = [
            ForwardBackward(module, self.model.run_eagerly, any_length=True)
            for module in self.modules
        ]
        self._play = self.forward_functions(
            module_passes.forward for module_passes in passes
        )
        self._replay = self.backward_functions(
            module_passes.backward for module_passes in passes
        )
        self._build_queues()

    def rates_ahead(self):
        plays, replays = super().rates_ahead()
        # Nothing is replayed, but the last module still looks ahead.
        return plays, [*([] for _ in replays[:-1]), replays[-1]]

    def next_update(self, k):
        residuals, delta = self._pending(k)
        gradients, _ = self._replay[k](residuals, delta)
        return gradients, delta, None


class _EagerQueue:
    """A queue for eager execution, which keeps tapes instead of tensors."""

    variables = ()

    def __init__(self, length):
        self.length = length
        self._entries = collections.deque()

    def load(self, count):
        entries = list(self._entries)
        return collections.deque(entries[len(entries) - count:])

    def store(self, entries):
        self._entries = entries


@keras.saving.register_keras_serializable("fr_keras")
class DDG(FeaturesReplay):
    """Trains K modules in parallel, from stored activations.

    Decoupled parallel backpropagation with delayed gradients. As in Features
    Replay, module k uses the error gradient δ that it received one iteration
    ago, which belongs to mini-batch t - (K-k). But nothing is replayed:
    module k keeps the activations of its last K - k + 1 iterations, and runs
    the backward pass for its forward pass of iteration t - (K-k). So g_k^t is
    the exact gradient of back-propagation at the old weights w^{t-(K-k)}, and
    is applied to the current ones.

    All tensors that a backward pass needs, including the old weights, are kept
    between iterations in `tf.Variable`s on the module's device: with L layers,
    O(L K) activations, where Features Replay needs O(L + K²).

    Iteration t, with mini-batch t:

    1. Forward: h_k^t = F_k(h_{k-1}^t; w_k^t), module after module.
    2. Backward, all k at once, through the activations of iteration t - (K-k):
       from δ_k^t for k < K, from the loss for k = K.
    3. Update every module with its own optimizer, at learning rate γ_t.
    4. Send e_k^t down: δ_{k-1}^{t+1} = e_k^t.

    Warm-up, schedule, attributes and errors are those of `FeaturesReplay`.

    Args:
        model: Sequential or Functional `keras.Model` to split (a copy of it is
            trained, and `model` is not changed), or a list of K modules.
        num_modules: int, K, or `None` for one module per device.
        devices: list of K device names. `None` uses the GPUs or, without a
            GPU, the logical CPU devices.
        gradient_shrink: float, β, as for `FeaturesReplay`.
        weight_prediction: bool, whether modules look ahead, as in
            `FeaturesReplay`. Off by default.
        delay_policy: `fr_keras.DelayPolicy`, or `None` for its defaults.
        **kwargs: `costs`, by which `model` is split, `copy`, whether to train a
            copy, `replicas`, the number of pipelines, `split_points`, where to
            split, and `link_dtype` (see `fr_keras.algorithms.base.Algorithm`),
            and the arguments of `keras.Model`.

    Example:

    ```python
    model = fr_keras.DDG(
        fr_keras.models.resnet(20, num_classes=10), num_modules=2
    )
    model.compile("sgd", "sparse_categorical_crossentropy")
    model.fit(x_train, y_train)
    ```

    Reference: [Decoupled Parallel Backpropagation with Convergence Guarantee](
    https://arxiv.org/abs/1804.10574).
    """

    pipeline_class = DDGPipeline
    schedule = "ddg"

    def __init__(
        self, model: keras.Model | Sequence[keras.layers.Layer],
        num_modules: int | None = None, devices: Sequence[str] | None = None,
        gradient_shrink: float = 1.0, weight_prediction: bool = False,
        delay_policy: DelayPolicy | None = None, **kwargs: Any,
    ) -> None:
        super().__init__(
            model, num_modules, devices, gradient_shrink, weight_prediction,
            delay_policy, **kwargs,
        )
