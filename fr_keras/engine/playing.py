"""Play and replay: what one module does in Features Replay."""

import functools

from fr_keras.engine.forward_backward import record


def play(module, x, *rates):
    """Forward pass of a new mini-batch: h_k = F_k(h_{k-1}; w_k).

    Moves the module's state: moving averages, random number generators.

    Args:
        module: `fr_keras.engine.module.Module`.
        x: `fr_keras.engine.features.Features`, the used part of h_{k-1}.
        *rates: the learning rates with which the module looks ahead, if it
            does: see `fr_keras.delays.look_ahead.LookAhead.play`.

    Returns:
        Tuple `(made, kept, losses, state)`: `Features`, what the module makes
        of h_k; what a replay needs, `x` and the state from which it was played
        (a list of tensors); the losses of its layers; and that state.
    """
    ahead = functools.partial(module.look_ahead.play, *rates) if rates else None
    made, losses, moved = module.forward(x, (), ahead)
    state = module.commit(moved)
    return made, (x, state), losses, state


def replay(module, kept, delta, *rates, loss_weight=1.0):
    """Replay of a stored input and backward pass from δ_k.

    The module's state stays as it is: it moved when the input was played.

    Args:
        module: `fr_keras.engine.module.Module`.
        kept: tuple `(x, state)`, as `play` returned it.
        delta: list of tensors, δ_k as `Module.received` returns it.
        *rates: as for `play`.
        loss_weight: float, the weight of the losses of the module's layers.

    Returns:
        Tuple `(gradients, sent)`: g_k, a list of tensors, and the
        `fr_keras.engine.features.ErrorGradient` of `x`.
    """
    x, state = kept
    ahead = (
        functools.partial(module.look_ahead.replay, *rates) if rates else None
    )
    _, _, _, backward = record(module, x, loss_weight, state, ahead)
    return backward(delta)
