"""The learning rate of an experiment, with warm-up and decay."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("fr_keras")
class WarmUp(keras.optimizers.schedules.LearningRateSchedule):
    """A schedule that starts with small learning rates.

    At iteration t, from 0, γ_t is multiplied by (t + 1) / `num_steps`, but at
    most by 1.

    Args:
        schedule: float or schedule, γ_t without warm-up.
        num_steps: int, iterations until the full learning rate, at least 1.
        name: str, the name of the schedule.

    Reference: section 2.2 of [Accurate, Large Minibatch SGD](
    https://arxiv.org/abs/1706.02677).
    """

    def __init__(self, schedule, num_steps, name="warm_up"):
        super().__init__()
        self.schedule = schedule
        self.num_steps = num_steps
        self.name = name

    def __call__(self, step):
        share = (ops.cast(step, "float32") + 1) / self.num_steps
        rate = self.schedule(step) if callable(self.schedule) else self.schedule
        return ops.minimum(share, 1.0) * rate

    def get_config(self):
        schedule = self.schedule
        if callable(schedule):
            schedule = keras.saving.serialize_keras_object(schedule)
        return {
            "schedule": schedule, "num_steps": self.num_steps,
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        if isinstance(config["schedule"], dict):
            config["schedule"] = keras.saving.deserialize_keras_object(
                config["schedule"]
            )
        return cls(**config)


def learning_rate(
    initial, steps_per_epoch, drops=(), factor=1.0, warmup=0,
    cosine_epochs=None,
):
    """A learning rate that is constant except for warm-up and decay.

    Args:
        initial: float, the learning rate after warm-up.
        steps_per_epoch: int, iterations in an epoch.
        drops: iterable of int, epochs after which it drops.
        factor: float, by which it is multiplied at each drop.
        warmup: float, epochs over which it rises from 0.
        cosine_epochs: int, epochs over which it falls to 0 like half a cosine
            (equation 5 of [SGDR](https://arxiv.org/abs/1608.03983), without
            restarts), or `None` for drops.

    Returns:
        float or `keras.optimizers.schedules.LearningRateSchedule`.
    """
    steps = [epoch * steps_per_epoch - 1 for epoch in drops]
    rate = initial
    if cosine_epochs is not None:
        rate = keras.optimizers.schedules.CosineDecay(
            initial, cosine_epochs * steps_per_epoch
        )
    elif steps:
        rate = keras.optimizers.schedules.PiecewiseConstantDecay(
            steps, [initial * factor**i for i in range(len(steps) + 1)]
        )
    num_steps = round(warmup * steps_per_epoch)
    return WarmUp(rate, num_steps) if num_steps else rate
