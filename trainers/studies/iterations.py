"""An iteration of many runs at once, by either algorithm."""

import functools

import keras

from trainers.studies.module_of_runs import vectorized


def features_replay(
    modules, loss, gradient_shrink, x, y, kept, deltas, rates, counts
):
    """Runs an iteration of Features Replay.

    Args:
        modules: list of K `Module`s, which are updated.
        loss: `keras.losses.Loss`.
        gradient_shrink: float, β.
        x: nest of tensors of shape (R, batch, ...).
        y: tensor of shape (R, batch, ...).
        kept: list of K - 1 pairs, the inputs and the state that each module
            but the last replays.
        deltas: list of K - 1 nests of tensors, the error gradients that they
            use.
        rates: tensor, as returned by `LearningRates.at`.
        counts: tensor of K ints, as for `Module.update`.

    Returns:
        Tuple of the losses, of shape (R,), and like `kept` and `deltas`, what
        modules keep and receive for later iterations.
    """
    played, features = [], x
    for k, module in enumerate(modules[:-1]):
        state = _state(module)
        played.append((features, state))
        features = _play(
            module, features, state, module.ahead("play", rates[k][1])
        )
    found = [
        vectorized(
            module.replay, *kept[k], module.ahead("replay", rates[k][0]),
            deltas[k],
        )
        for k, module in enumerate(modules[:-1])
    ]
    last = modules[-1]
    losses, learned = _learn(
        last, loss, features, last.ahead("replay", rates[-1][0]), y
    )
    found.append(learned)
    _update(modules, found, rates, counts)
    return losses, played, keras.tree.map_structure(
        lambda e: gradient_shrink * e, [sent for _, sent in found[1:]]
    )


def backpropagation(modules, loss, x, y, rates, counts):
    """Runs an iteration of back-propagation.

    Args:
        modules: as for `features_replay`.
        loss: the same.
        x: the same.
        y: the same.
        rates: the same.
        counts: the same.

    Returns:
        Tensor of shape (R,), the losses.
    """
    kept, features = [], x
    for module in modules[:-1]:
        state = _state(module)
        kept.append((features, state))
        features = _play(module, features, state, module.today())
    last = modules[-1]
    losses, learned = _learn(last, loss, features, last.today(), y)
    found = [learned]
    for module, of_module in zip(modules[-2::-1], kept[::-1]):
        found.append(vectorized(
            module.replay, *of_module, module.today(), found[-1][1]
        ))
    _update(modules, found[::-1], rates, counts)
    return losses


def _state(module):
    return [v.read_value() for v in module.state]


def _play(module, features, state, weights):
    """Returns the outputs of a module that is not the last."""
    features, moved = vectorized(module.call, features, state, weights)
    module.move(moved)
    return features


def _learn(module, loss, features, weights, y):
    """Returns the losses, and the pair of gradients of the last module."""
    losses, moved, *learned = vectorized(
        functools.partial(module.learn, loss), features, _state(module),
        weights, y,
    )
    module.move(moved)
    return losses, learned


def _update(modules, found, rates, counts):
    for k, (module, (gradients, _)) in enumerate(zip(modules, found)):
        module.update(gradients, rates[k][0], counts[k])
