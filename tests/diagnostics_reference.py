"""The diagnostics a second time: plain, slow, in float64, from the formulas."""

import collections

import tensorflow as tf

from tests.reference import cross_entropy


def features_replay(modules, learning_rate, batches, measured):
    """Features Replay by plain SGD, looked at in every iteration.

    Args:
        modules: list of `tests.reference.PlainModule`, k = 1 … K, which hold
            the trained weights afterwards.
        learning_rate: float.
        batches: list of `(x, y)`.
        measured: list of `(x, y)`, the mini-batches of the exact gradient.

    Returns:
        List of one dict for each iteration t after warm-up, of lists with one
        float for each module, measured at w^t: `inner` ⟨∇_k f, g_k⟩, `true`
        ‖∇_k f‖² and `used` ‖g_k‖², where f is the loss of the mini-batch that
        is replayed; `residual` ‖δ_k - ∂f/∂h_k‖², `true_delta` ‖∂f/∂h_k‖²,
        `drift` ‖h̃_k - h_k‖ / ‖h_k‖; the same inner product and norm `exact`
        and `exact_true` with the gradient over `measured`; `loss_of` and
        `last_true`, f and ‖∇_K f‖² of the mini-batch that each replays. And
        over `measured` the float `loss`, and as one vector of all modules
        `gradient`, beside the `weights` of then.
    """
    K = len(modules)
    played = []  # Of each iteration: h_0 … h_K.
    delta = [None] * (K + 1)
    found = []
    for t, (x, _) in enumerate(batches):
        h = [tf.constant(x)]
        for module in modules:
            h.append(module.forward(module.weights, h[-1], False))
        played.append(h)
        numbers = collections.defaultdict(list)
        numbers["loss"], exact = full_gradient(modules, measured)
        numbers["gradient"] = vector(exact)
        numbers["weights"] = vector(sum(m.weights, []) for m in modules)
        updates, next_delta = [], [None] * (K + 1)
        for k in range(1, K + 1):
            if t < K - k:
                continue
            module, s = modules[k - 1], t - (K - k)
            flat, x_replayed = sum(module.weights, []), played[s][k - 1]
            with tf.GradientTape() as tape:
                tape.watch([x_replayed, *flat])
                again = module.forward(module.weights, x_replayed, False)
                objective = (
                    cross_entropy(batches[s][1], again) if k == K
                    else tf.reduce_sum(again * delta[k])
                )
            *used, next_delta[k - 1] = tape.gradient(
                objective, [*flat, x_replayed]
            )
            updates.append((module, used))
            if t < K - 1:
                continue
            loss, true, true_delta = back_propagate(modules, *batches[s])
            numbers["loss_of"].append(loss)
            numbers["last_true"].append(dot(true[-1], true[-1]))
            numbers["inner"].append(dot(true[k - 1], used))
            numbers["true"].append(dot(true[k - 1], true[k - 1]))
            numbers["used"].append(dot(used, used))
            numbers["exact"].append(dot(exact[k - 1], used))
            numbers["exact_true"].append(dot(exact[k - 1], exact[k - 1]))
            if k < K:
                numbers["residual"].append(
                    square(delta[k] - true_delta[k - 1])
                )
                numbers["true_delta"].append(square(true_delta[k - 1]))
                numbers["drift"].append(
                    (square(again - played[s][k]) / square(played[s][k]))**0.5
                )
        if t >= K - 1:
            found.append(dict(numbers))
        for module, gradients in updates:
            gradients = iter(gradients)
            module.weights = [
                [w - learning_rate * next(gradients) for w in weights]
                for weights in module.weights
            ]
        delta = next_delta
    return found


def back_propagate(modules, x, y):
    """Loss, [∇_k f] and [∂f/∂h_k] of one mini-batch."""
    weights = [sum(module.weights, []) for module in modules]
    with tf.GradientTape() as tape:
        tape.watch(weights)
        h, features = tf.constant(x), []
        for module in modules:
            h = module.forward(module.weights, h, False)
            features.append(h)
        loss = cross_entropy(y, h)
    gradients, deltas = tape.gradient(loss, (weights, features))
    return float(loss), gradients, deltas


def full_gradient(modules, batches):
    """The mean of loss and gradients over the examples of mini-batches."""
    loss, total, size = 0.0, None, 0
    for x, y in batches:
        of_batch, gradients, _ = back_propagate(modules, x, y)
        loss += len(x) * of_batch
        size += len(x)
        scaled = [[len(x) * g for g in of_module] for of_module in gradients]
        total = scaled if total is None else [
            [a + b for a, b in zip(*pair)] for pair in zip(total, scaled)
        ]
    return loss / size, [[g / size for g in of_module] for of_module in total]


def vector(of_modules):
    return tf.concat(
        [tf.reshape(x, [-1]) for tensors in of_modules for x in tensors], 0
    ).numpy()


def dot(a, b):
    return float(sum(tf.reduce_sum(x * y) for x, y in zip(a, b)))


def square(tensor):
    return float(tf.reduce_sum(tensor**2))
