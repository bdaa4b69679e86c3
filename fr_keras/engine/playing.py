"""Play and replay: the work of one module in Features Replay."""

import functools

from fr_keras.engine.forward_backward import record


def play(module, x, share=None, *rates):
    """Runs the forward pass of a new mini-batch: h_k = F_k(h_{k-1}; w_k).

    Advances the module's state: moving averages, random number generators.

    Args:
        module: `fr_keras.engine.module.Module`.
        x: `fr_keras.engine.features.Features`, the used part of h_{k-1}.
        share: `fr_keras.batches.shards.Share` of the examples, or `None`.
        *rates: the learning rates for looking ahead, if the module does: see
            `fr_keras.delays.look_ahead.LookAhead.play`.

    Returns:
        Tuple `(outputs, kept, losses, state)`: `Features`, the part of h_k
        that the module computes; the input of its replay,
        `(x, state, share)`; the losses of the module's layers; and the
        module's state before the play, a list of tensors.
    """
    ahead = functools.partial(module.look_ahead.play, *rates) if rates else None
    outputs, losses, state_updates = module.forward(x, (), ahead)
    state = module.commit(state_updates)
    return outputs, (x, state, share), losses, state


def replay(module, kept, delta, *rates, loss_weight=1.0):
    """Replays a stored input and runs the backward pass from δ_k.

    The module's state does not change: play has advanced it.

    Args:
        module: `fr_keras.engine.module.Module`.
        kept: tuple `(x, state, share)`, as returned by `play`.
        delta: list of tensors, δ_k as `Module.received` returns it.
        *rates: as for `play`.
        loss_weight: float, the weight of the losses of the module's layers.

    Returns:
        Tuple `(gradients, sent)`: g_k, a list of tensors, and the
        `fr_keras.engine.features.ErrorGradient` of `x`.
    """
    x, state, share = kept
    ahead = (
        functools.partial(module.look_ahead.replay, *rates) if rates else None
    )
    _, _, _, backward = record(
        module, x, loss_weight, state, ahead, share
    )
    return backward(delta)
