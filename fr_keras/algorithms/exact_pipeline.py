"""Exact pipelines: back-propagation of micro-batches, in any schedule."""

from collections.abc import Sequence
from typing import Any

import keras

from fr_keras import schedules
from fr_keras.algorithms.base import Algorithm
from fr_keras.algorithms.microbatch_pipeline import MicrobatchPipeline
from fr_keras.algorithms.microbatches import check_number
from fr_keras.engine import placement


@keras.saving.register_keras_serializable("fr_keras")
class Pipeline(Algorithm):
    """Trains K modules by back-propagation of M micro-batches in a pipeline.

    Every mini-batch is split into M micro-batches of equal size, so that a
    module can work on one while its neighbours work on others. Gradients are
    summed over the micro-batches, and every module is updated once. The
    schedule says in which order a device does its work; in units of τ, the
    time of a module's forward pass of the whole batch (a backward pass takes
    2τ, half of it for the gradients of weights), and micro-batches whose
    activations module k, from 1, keeps at a time:

    | `schedule` | time of an iteration | micro-batches kept |
    |------------|----------------------|--------------------|
    | `"gpipe"`  | 3τ + 3τ (K - 1) / M  | M                  |
    | `"1f1b"`   | 3τ + 3τ (K - 1) / M  | K - k + 1          |
    | `"zb-h1"`  | 3τ + τ (K - 1) / M   | K                  |
    | `"zb-h2"`  | 3τ                   | 2 K - 1            |

    `"interleaved-1f1b"` is for K modules on D < K devices, such as
    `num_modules=8` and four `devices`, where device d has the modules d, d + D
    and so on: with τ the time of all forward passes on a device, an iteration
    takes 3τ + 3τ (D - 1) D / (M K). K and M must be multiples of D. Devices
    send K / D times as much.

    The last two need M >= K and M >= 2 K - 1 for this. They compute gradients
    of weights later than those of inputs, for which other modules wait, and
    keep the activations until then.

    The gradients are those of back-propagation, except that batch
    normalization uses the statistics of a micro-batch. Its averages are updated
    once per mini-batch, by the mean over the micro-batches. Losses of layers
    (`add_loss`, activity regularizers) are averaged over micro-batches. With
    other schedules than `"gpipe"`, the loss of `compile` is, too: it must be a
    mean over the examples, and outputs with masks are refused.

    Attributes and errors are those of `fr_keras.algorithms.base.Algorithm`.

    Args:
        model: Sequential or Functional `keras.Model` to split (a copy of it is
            trained, and `model` is not changed), or a list of K modules.
        num_modules: int, K, or `None` for one module per device.
        devices: list of K device names, or fewer, on which modules take turns.
            `None` uses the GPUs or, without a GPU, the logical CPU devices.
        num_microbatches: int, M, by which the size of every batch must be
            divisible.
        schedule: str, as above.
        recompute: bool, whether to keep only the inputs of the modules, and to
            recompute activations when the backward pass begins.
        **kwargs: `costs`, by which `model` is split, `copy`, whether to train a
            copy, `replicas`, the number of pipelines, `split_points`, where to
            split, and `link_dtype` (see `fr_keras.algorithms.base.Algorithm`),
            and the arguments of `keras.Model`.

    Example:

    ```python
    model = fr_keras.Pipeline(
        fr_keras.models.resnet(20, num_classes=10), num_modules=2,
        num_microbatches=8, schedule="zb-h1",
    )
    model.compile("sgd", "sparse_categorical_crossentropy")
    model.fit(x_train, y_train, batch_size=128)
    ```

    References: [PipeDream-Flush](https://arxiv.org/abs/2006.09503), which is
    1F1B; [Zero Bubble Pipeline Parallelism](https://arxiv.org/abs/2401.10241);
    and `GPipe`.
    """

    pipeline_class = MicrobatchPipeline

    def __init__(
        self, model: keras.Model | Sequence[keras.layers.Layer],
        num_modules: int | None = None, devices: Sequence[str] | None = None,
        num_microbatches: int = 4, schedule: str = "1f1b",
        recompute: bool = False, **kwargs: Any,
    ) -> None:
        check_number(num_microbatches)
        if schedule not in schedules.SCHEDULES:
            raise ValueError(
                f"`schedule` must be one of {', '.join(schedules.SCHEDULES)}. "
                f"Received: {schedule=}"
            )
        # (Before the rest, which may plan by them.)
        self.num_microbatches = num_microbatches
        self.schedule = schedule
        self.recompute = recompute
        if schedule == schedules.INTERLEAVED and num_modules == "auto":
            raise ValueError(
                "`num_modules='auto'` chooses one module per device, which "
                f"leaves nothing to interleave; pass a number. Received: "
                f"{schedule=}"
            )
        super().__init__(model, num_modules, devices, **kwargs)
        for pipeline in self.pipelines:
            check_turns(pipeline.devices, num_microbatches, schedule)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "num_microbatches": self.num_microbatches,
            "schedule": self.schedule,
            "recompute": self.recompute,
        }


def check_turns(devices, num_microbatches, schedule):
    """Checks that modules take turns on devices as a schedule needs it.

    Args:
        devices: list of the devices of K modules.
        num_microbatches: int, M.
        schedule: str.

    Raises:
        ValueError: if they do not.
    """
    if schedule != schedules.INTERLEAVED:
        return
    different = list(dict.fromkeys(devices))
    count = len(different)
    schedules.order(schedule, len(devices), num_microbatches, count)
    if list(devices) != different * (len(devices) // count):
        raise ValueError(
            f"With {schedule=}, modules must take turns on the devices, such "
            "as GPU:0, GPU:1, GPU:0, GPU:1. "
            f"Received: devices={[*map(placement.short_name, devices)]}"
        )


@keras.saving.register_keras_serializable("fr_keras")
class GPipe(Pipeline):
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
            copy, `replicas`, the number of pipelines, `split_points`, where to
            split, and `link_dtype` (see `fr_keras.algorithms.base.Algorithm`),
            and the arguments of `keras.Model`.

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

    def __init__(
        self, model: keras.Model | Sequence[keras.layers.Layer],
        num_modules: int | None = None, devices: Sequence[str] | None = None,
        num_microbatches: int = 4, recompute: bool = True, **kwargs: Any,
    ) -> None:
        super().__init__(
            model, num_modules, devices, num_microbatches, "gpipe", recompute,
            **kwargs,
        )

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        del config["schedule"]
        return config
