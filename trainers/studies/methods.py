"""Methods of training with late gradients, to be compared."""

import dataclasses

import keras

import fr_keras

OPTIMIZERS = {
    "sgd": lambda **kwargs: keras.optimizers.SGD(momentum=0.9, **kwargs),
    "adam": keras.optimizers.Adam,
    "muon": keras.optimizers.Muon,
}


@dataclasses.dataclass(frozen=True)
class Method:
    """One training method.

    Attributes:
        title: str, for tables.
        policy: `fr_keras.DelayPolicy`, or `None` for the paper's algorithm.
        gradient_shrink: float, β.
        accumulation: int, M: gradients averaged for each update. The number of
            examples stays the same, so there are fewer updates.
        optimizer: dict of arguments of the optimizer.
        warms_up: bool, whether the learning rate rises at first.
        exact_share: float, the share of the iterations, at the end, that use
            back-propagation.
        exact: str, the name of the back-propagation method with the same
            optimizer and batches.
    """

    title: str
    policy: fr_keras.DelayPolicy | None = None
    gradient_shrink: float = 1.0
    accumulation: int = 1
    optimizer: dict = dataclasses.field(default_factory=dict)
    warms_up: bool = True
    exact_share: float = 0.0
    exact: str = "backprop"


class Fixed(fr_keras.DelayPolicy):
    """Learning rates reduced by delay, by the same factor throughout."""

    def decayed_learning_rate(self, delay):
        return self.learning_rate(delay)


class RatesOnly(Fixed):
    """Learning rates reduced by delay, at the current weights."""

    def play(self, delay, momentum):
        return 0.0

    replay = play


class LessMomentum(RatesOnly):
    """Momentum μ^(1 + s), what is left of a gradient after 1 + s updates."""

    def momentum(self, delay, momentum):
        return momentum ** (1 + delay)


class MoreMomentum(fr_keras.DelayPolicy):
    """0.95 instead of 0.9: look-ahead gains more with more momentum."""

    def momentum(self, delay, momentum):
        return (1 + momentum) / 2


_CLIPPED = {"global_clipnorm": 1.0}

METHODS = {
    "backprop": Method("back-propagation"),
    "paper": Method("the paper's Features Replay"),
    "default": Method("the default", fr_keras.DelayPolicy()),
    "default_clipped": Method(
        "the default, clipped to 1", fr_keras.DelayPolicy(),
        optimizer=_CLIPPED, exact="backprop_clipped",
    ),
    "look_ahead": Method("look-ahead", fr_keras.DelayPolicy(0.0)),
    "look_ahead_half": Method("look-ahead, γ/√(1+s)", Fixed(0.5)),
    "look_ahead_full": Method("look-ahead, γ/(1+s)", Fixed(1.0)),
    "look_ahead_momentum": Method("the default, μ = 0.95", MoreMomentum()),
    "rates_half": Method("γ/√(1+s)", RatesOnly(0.5)),
    "rates_full": Method("γ/(1+s)", RatesOnly(1.0)),
    "momentum": Method("momentum μ^(1+s)", LessMomentum(0.0)),
    "clipped": Method(
        "clipped to 1/√(1+s)", RatesOnly(0.0), optimizer=_CLIPPED,
        exact="backprop_clipped",
    ),
    "shrink": Method("gradients halved at each hop", gradient_shrink=0.5),
    "accumulation": Method(
        "4 gradients for an update", accumulation=4,
        exact="backprop_accumulation",
    ),
    "no_warmup": Method(
        "no warm-up", warms_up=False, exact="backprop_no_warmup"
    ),
    "finish": Method("the last tenth by back-propagation", exact_share=0.1),
    "backprop_clipped": Method(
        "back-propagation, clipped to 1", optimizer=_CLIPPED
    ),
    "backprop_accumulation": Method(
        "back-propagation, 4 gradients for an update", accumulation=4
    ),
    "backprop_no_warmup": Method(
        "back-propagation, no warm-up", warms_up=False
    ),
}


def is_exact(name):
    """Whether a method is back-propagation, which has one module.

    Args:
        name: str, one of `METHODS`.
    """
    return name.startswith("backprop")
