"""Every optimizer and schedule of Keras with its options, by Keras and by us.

To add an option, add a row to `OPTIMIZERS`. A class without a row is tried with
its defaults. Everything is in float64: optimizers that divide by the root of
what they have seen make noise of rounding.

Modules clip by themselves, so `global_clipnorm` is that of Keras for K = 1.
"""

import inspect

import keras
import tensorflow as tf

layers = keras.layers
optimizers = keras.optimizers
schedules = optimizers.schedules
RATE = 0.03125
LEFT_OUT = {
    "Optimizer": "the base class",
    "OptimizerMap": "an argument of MultiOptimizer, no optimizer",
}
SCHEDULES_LEFT_OUT = {"LearningRateSchedule": "the base class"}


def network():
    return keras.Sequential([
        keras.Input((6,)),
        layers.Dense(6, activation="tanh", name="first"),
        layers.Dense(5, activation="tanh", name="second"),
        layers.BatchNormalization(name="norm"),
        layers.Dense(5, activation="tanh", name="third"),
        layers.Dense(4, activation="tanh", name="fourth"),
        layers.Dense(3, name="fifth"),
    ])


def sgd(**options):
    return lambda: optimizers.SGD(RATE, **options)


def excluding(optimizer, *names):
    optimizer.exclude_from_weight_decay(var_names=list(names))
    return optimizer


def multi(default, loss_scale_factor=None, **of_patterns):
    return optimizers.MultiOptimizer(
        optimizers.OptimizerMap(
            default,
            {f"{name}/.*": of_name for name, of_name in of_patterns.items()},
        ),
        loss_scale_factor,
    )


class Halving(schedules.LearningRateSchedule):
    """A schedule that nobody can know."""

    def __call__(self, step):
        return RATE / (1.0 + tf.cast(step, "float32"))

    def get_config(self):
        return {}


# Of some classes only the options that others do not have.
OPTIMIZERS = {
    "SGD": {
        "": sgd(),
        "momentum": sgd(momentum=0.875),
        "nesterov": sgd(momentum=0.875, nesterov=True),
        "weight_decay": sgd(weight_decay=0.25),
        "exclude by name": lambda: excluding(
            optimizers.SGD(RATE, weight_decay=0.25), "bias", "third", "beta"
        ),
        "clipvalue": sgd(clipvalue=0.01),
        "clipnorm": sgd(clipnorm=0.05),
        "global_clipnorm": sgd(global_clipnorm=0.05),
        "use_ema": sgd(use_ema=True, ema_momentum=0.5),
        "ema_overwrite_frequency": sgd(
            use_ema=True, ema_momentum=0.5, ema_overwrite_frequency=2
        ),
        "gradient_accumulation_steps": sgd(
            momentum=0.875, gradient_accumulation_steps=2
        ),
        "accumulation, clipping, EMA": sgd(
            gradient_accumulation_steps=4, clipvalue=0.05, use_ema=True,
            ema_momentum=0.5, weight_decay=0.125,
        ),
        "loss_scale_factor": sgd(loss_scale_factor=64.0, clipvalue=0.05),
        "schedule": lambda: optimizers.SGD(
            schedules.ExponentialDecay(RATE, 2, 0.5), 0.875
        ),
        "schedule and accumulation": lambda: optimizers.SGD(
            schedules.ExponentialDecay(RATE, 1, 0.5),
            gradient_accumulation_steps=2,
        ),
        "schedule of a user": lambda: optimizers.SGD(Halving()),
        "name": sgd(name="descent"),
    },
    "Adadelta": {
        "": lambda: optimizers.Adadelta(1.0),
        "options": lambda: optimizers.Adadelta(
            0.5, rho=0.5, epsilon=1e-4, weight_decay=0.1, clipvalue=0.1
        ),
    },
    "Adafactor": {
        "": lambda: optimizers.Adafactor(RATE),
        "options": lambda: optimizers.Adafactor(
            RATE, beta_2_decay=-0.5, clip_threshold=0.5, relative_step=False,
            weight_decay=0.1,
        ),
        "schedule": lambda: optimizers.Adafactor(
            schedules.ExponentialDecay(RATE, 2, 0.5), relative_step=False
        ),
    },
    "Adagrad": {
        "": lambda: optimizers.Adagrad(RATE),
        "options": lambda: optimizers.Adagrad(
            RATE, 0.25, 1e-3, weight_decay=0.1, use_ema=True
        ),
    },
    "Adam": {
        "": lambda: optimizers.Adam(RATE),
        "amsgrad": lambda: optimizers.Adam(RATE, amsgrad=True, epsilon=1e-3),
        "weight_decay, clipnorm": lambda: optimizers.Adam(
            RATE, weight_decay=0.1, clipnorm=0.1
        ),
        "use_ema": lambda: optimizers.Adam(
            RATE, use_ema=True, ema_momentum=0.5, ema_overwrite_frequency=4
        ),
        "gradient_accumulation_steps": lambda: optimizers.Adam(
            RATE, gradient_accumulation_steps=3
        ),
        "schedule": lambda: optimizers.Adam(
            schedules.PolynomialDecay(RATE, 4), 0.5
        ),
        "by name": lambda: "adam",
        "by configuration": lambda: optimizers.serialize(optimizers.Adam(RATE)),
    },
    "AdamW": {
        "": lambda: optimizers.AdamW(RATE, 0.1),
        "exclude by name": lambda: excluding(
            optimizers.AdamW(RATE, 0.25), "fourth", "gamma", "bias"
        ),
    },
    "Adamax": {
        "": lambda: optimizers.Adamax(RATE),
        "options": lambda: optimizers.Adamax(
            RATE, 0.5, 0.75, weight_decay=0.1, clipvalue=0.1
        ),
    },
    "Ftrl": {
        "": lambda: optimizers.Ftrl(RATE),
        "options": lambda: optimizers.Ftrl(
            RATE, -0.25, 0.2, 0.01, 0.01, 0.01, 0.1
        ),
    },
    "Lamb": {
        "": lambda: optimizers.Lamb(RATE),
        "weight_decay": lambda: optimizers.Lamb(RATE, weight_decay=0.1),
    },
    "Lion": {
        "": lambda: optimizers.Lion(RATE / 8),
        "weight_decay": lambda: optimizers.Lion(RATE / 8, weight_decay=0.25),
    },
    "LossScaleOptimizer": {
        "": lambda: optimizers.LossScaleOptimizer(optimizers.SGD(RATE, 0.875)),
        "growth": lambda: optimizers.LossScaleOptimizer(
            optimizers.Adam(RATE), 8.0, dynamic_growth_steps=2
        ),
        "accumulation": lambda: optimizers.LossScaleOptimizer(
            optimizers.SGD(RATE, gradient_accumulation_steps=2), 8.0
        ),
        "schedule": lambda: optimizers.LossScaleOptimizer(
            optimizers.SGD(schedules.ExponentialDecay(RATE, 2, 0.5)), 8.0
        ),
        "exclude by name": lambda: optimizers.LossScaleOptimizer(
            excluding(optimizers.SGD(RATE, weight_decay=0.25), "first")
        ),
        "of a MultiOptimizer": lambda: optimizers.LossScaleOptimizer(
            multi(optimizers.SGD(RATE), third=optimizers.Adam(RATE))
        ),
    },
    "MultiOptimizer": {
        "": lambda: multi(
            optimizers.SGD(RATE), third=optimizers.Adam(RATE),
            first=optimizers.AdamW(RATE, 0.25),
        ),
        "schedules, accumulation": lambda: multi(
            optimizers.SGD(schedules.ExponentialDecay(RATE, 2, 0.5)),
            second=optimizers.SGD(RATE, gradient_accumulation_steps=2),
        ),
        "loss_scale_factor": lambda: multi(
            optimizers.SGD(RATE), 16.0, second=optimizers.Adam(RATE)
        ),
        "one never used": lambda: multi(
            optimizers.SGD(RATE), nowhere=optimizers.Adam(RATE)
        ),
    },
    "Muon": {
        "": lambda: optimizers.Muon(RATE),
        "exclude_layers": lambda: optimizers.Muon(
            RATE, exclude_layers=["second", "fifth"], weight_decay=0.25
        ),
        "exclude by name": lambda: excluding(
            optimizers.Muon(RATE, weight_decay=0.25), "first"
        ),
    },
    "Nadam": {
        "": lambda: optimizers.Nadam(RATE),
        "weight_decay": lambda: optimizers.Nadam(RATE, weight_decay=0.1),
    },
    "RMSprop": {
        "": lambda: optimizers.RMSprop(RATE / 4),
        "momentum, centered": lambda: optimizers.RMSprop(
            RATE / 4, momentum=0.5, centered=True, weight_decay=0.1
        ),
    },
    "ScheduleFreeAdamW": {
        "": lambda: optimizers.ScheduleFreeAdamW(RATE),
        "warmup_steps": lambda: optimizers.ScheduleFreeAdamW(
            RATE, warmup_steps=3, weight_decay=0.1
        ),
        "clipping": lambda: optimizers.ScheduleFreeAdamW(RATE, clipvalue=0.1),
    },
}
SCHEDULES = {
    "CosineDecay": lambda: schedules.CosineDecay(
        RATE, 5, warmup_target=2 * RATE, warmup_steps=2
    ),
    "CosineDecayRestarts": lambda: schedules.CosineDecayRestarts(RATE, 3),
    "ExponentialDecay": lambda: schedules.ExponentialDecay(
        RATE, 2, 0.5, staircase=True
    ),
    "InverseTimeDecay": lambda: schedules.InverseTimeDecay(RATE, 2, 0.5),
    "PiecewiseConstantDecay": lambda: schedules.PiecewiseConstantDecay(
        [1, 4], [RATE, RATE / 2, RATE / 8]
    ),
    "PolynomialDecay": lambda: schedules.PolynomialDecay(RATE, 4, cycle=True),
}


def subclasses(module, base):
    """Public classes of a module: a dict from name to class."""
    return {
        name: getattr(module, name) for name in dir(module)
        if inspect.isclass(getattr(module, name))
        and issubclass(getattr(module, name), base)
    }


def optimizer_classes():
    found = subclasses(optimizers, optimizers.Optimizer)
    return {"OptimizerMap": optimizers.OptimizerMap, **found}


def rows():
    for name in sorted(optimizer_classes().keys() - LEFT_OUT.keys()):
        for option in OPTIMIZERS.get(name, {""}):
            yield name, option
