"""Features Replay (Huo, Gu, Huang, NeurIPS 2018, arXiv 1807.04511)."""

from collections.abc import Sequence
from typing import Any

import keras

from fr_keras.algorithms.delayed import DelayedAlgorithm
from fr_keras.algorithms.microbatches import check_number
from fr_keras.algorithms.piecewise_replay import PiecewiseReplayPipeline
from fr_keras.algorithms.replay_pipeline import FeaturesReplayPipeline
from fr_keras.delays.delay_policy import DelayPolicy


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
        num_microbatches: int, M, by which the size of every batch must be
            divisible. Above 1, modules work on micro-batches, which are sent
            while others are computed, so that slow links matter less; batch
            normalization uses the statistics of a micro-batch, and losses must
            be means over the examples.
        **kwargs: `costs`, by which `model` is split, `copy`, whether to train a
            copy, `replicas`, the number of pipelines, `split_points`, where to
            split, and `link_dtype` (see `fr_keras.algorithms.base.Algorithm`),
            and the arguments of `keras.Model`.

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

    def __init__(
        self, model: keras.Model | Sequence[keras.layers.Layer],
        num_modules: int | None = None, devices: Sequence[str] | None = None,
        gradient_shrink: float = 1.0, weight_prediction: bool = True,
        delay_policy: DelayPolicy | None = None, num_microbatches: int = 1,
        **kwargs: Any,
    ) -> None:
        check_number(num_microbatches)
        # (Before the rest, which makes the pipelines.)
        self.num_microbatches = num_microbatches
        if num_microbatches > 1:
            if type(self).pipeline_class is not FeaturesReplayPipeline:
                raise ValueError(
                    "`num_microbatches` must be 1: only Features Replay and "
                    "exact pipelines split batches. "
                    f"Received: {num_microbatches=} for {type(self).__name__}"
                )
            self.pipeline_class = PiecewiseReplayPipeline
            self.schedule = "features_replay_microbatches"
        super().__init__(
            model, num_modules, devices, gradient_shrink, weight_prediction,
            delay_policy, **kwargs,
        )

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(), "num_microbatches": self.num_microbatches,
        }

    def drain(self) -> None:
        """Lets late modules learn from all mini-batches in their queues.

        Module k has not learned yet from the last K - k mini-batches. This
        runs K - 1 iterations without a new mini-batch, at the current learning
        rate, so that all modules have learned from the same mini-batches;
        further training starts with empty queues. Call it between calls of
        `fit`, before another method continues with the weights.
        """
        self.training.drain()
