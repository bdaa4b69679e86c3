"""Adjusts the optimizers of modules according to a delay policy."""

from fr_keras.delays.delay_policy import factor
from fr_keras.delays.look_ahead import MOMENTA
from fr_keras.engine.optimizer_copies import leaves

_CLIPPING = ("clipnorm", "global_clipnorm", "clipvalue")


def adjust(optimizer, given, policy, delay):
    """Sets momentum and clipping of a module's optimizer by its delay.

    Args:
        optimizer: the module's `keras.optimizers.Optimizer`.
        given: the optimizer of which it is a copy, from whose values the
            settings are computed.
        policy: `fr_keras.DelayPolicy`.
        delay: int, s, by how many iterations the module's gradient is late.

    Raises:
        ValueError: if the policy returns an invalid value.
    """
    for ours, theirs in zip(leaves(optimizer), leaves(given)):
        for name in MOMENTA:
            momentum = getattr(theirs, name, None)
            if momentum is not None:
                setattr(ours, name, factor(
                    policy, "momentum", delay, float(momentum), least=0,
                    below=1,
                ))
                break
        for name in _CLIPPING:
            threshold = getattr(theirs, name)
            if threshold is not None:
                share = factor(policy, "clipping", delay, above=0)
                setattr(ours, name, threshold * share)


def clips(optimizer):
    """Whether an optimizer clips gradients.

    Args:
        optimizer: `keras.optimizers.Optimizer`.

    Returns:
        bool, for one that consists of several, whether all do.
    """
    return all(
        any(getattr(leaf, name) is not None for name in _CLIPPING)
        for leaf in leaves(optimizer)
    )
