"""Features Replay a second time, plain and slow, for any Keras models."""

import collections
import contextlib

import keras
import tensorflow as tf


def features_replay(
    models, optimizer, learning_rate, batches, loss, play_ahead=None,
    replay_ahead=None, rate_factor=lambda delay, share: 1.0,
):
    """The algorithm of `reference.py` for any Keras models, run eagerly.

    The formulas are those of Keras' layers, the algorithm is again written out.
    What passes through a model is stored and differentiated like all the rest.

    Args:
        models: list of built Keras models, k = 1 … K, in any structure of
            tensors; they hold the trained weights afterwards.
        optimizer: as for `reference.features_replay`.
        learning_rate: as for `reference.features_replay`.
        batches: list of `(x, *more)`, x being a nest of arrays.
        loss: function `(outputs, *more) -> scalar tensor`.
        play_ahead: as for `reference.features_replay`; rules must know
            their last step.
        replay_ahead: as for `reference.features_replay`.
        rate_factor: as for `reference.features_replay`.

    Returns:
        List of the losses that are minimized, those of layers included.
    """
    K = len(models)
    rules = [optimizer() for _ in models]

    @contextlib.contextmanager
    def ahead(k, factor):
        """Module k, from 1, at w + f Δ."""
        variables = models[k - 1].trainable_variables
        before = [variable.numpy() for variable in variables]
        for i, (variable, w) in enumerate(zip(variables, before)):
            if factor is not None:
                step = rules[k - 1].last_step(i, None)
                variable.assign(w + factor(K - k) * step)
        yield
        for variable, w in zip(variables, before):
            variable.assign(w)

    queues = [collections.deque(maxlen=K - k + 1) for k in range(1, K + 1)]
    delta = [None] * (K + 1)
    losses = []
    for t, (x, *more) in enumerate(batches):
        # 1. Play, which alone moves averages and random numbers.
        h = keras.tree.map_structure(tf.constant, x)
        total = 0.0
        for k, model in enumerate(models, start=1):
            state = [v.numpy() for v in model.non_trainable_variables]
            queues[k - 1].append((h, _masks(h), state))
            # The last module's is the pass in which it learns.
            factor = play_ahead if k < K else replay_ahead
            with ahead(k, factor):
                h = model(h, training=True)
                total += sum(model.losses)
        losses.append(float(total + loss(h, *more)))
        played_state = [
            [v.numpy() for v in model.non_trainable_variables]
            for model in models
        ]

        next_delta = [None] * (K + 1)
        updates = []
        for k, model in enumerate(models, start=1):
            if t < K - k:
                continue
            x_replayed, masks, state = queues[k - 1][0]
            # (Attention takes the masks off its inputs.)
            for tensor, mask in zip(keras.tree.flatten(x_replayed), masks):
                tensor._keras_mask = mask
            for variable, value in zip(model.non_trainable_variables, state):
                variable.assign(value)
            with ahead(k, replay_ahead):
                weights = [v.value for v in model.trainable_variables]
                inputs = keras.tree.flatten(x_replayed)
                with tf.GradientTape() as tape:
                    tape.watch(inputs)
                    # 2. Replay, 3. backward: <h̃_k, δ_k> has the right gradient.
                    h = model(x_replayed, training=True)
                    if k == K:
                        terms = [tf.convert_to_tensor(loss(h, *more))]
                    else:
                        terms = [
                            tf.reduce_sum(tensor * of_tensor)
                            for tensor, of_tensor in zip(
                                keras.tree.flatten(h), delta[k]
                            )
                            if of_tensor is not None
                        ]
                    terms += model.losses
                # The gradient of the sum; of nothing, there is none.
                g, e = tape.gradient(terms, [weights, inputs])
            updates.append((k, g))
            next_delta[k - 1] = e
        for model, state in zip(models, played_state):
            for variable, value in zip(model.non_trainable_variables, state):
                variable.assign(value)
        # 4. Update.
        share = learning_rate(t) / max(map(learning_rate, range(t + 1)))
        for k, g in updates:
            for i, variable in enumerate(models[k - 1].trainable_variables):
                if g[i] is not None:
                    gradient = tf.convert_to_tensor(g[i]).numpy()
                    variable.assign(
                        rules[k - 1](
                            i, variable.numpy(), gradient,
                            learning_rate(t) * rate_factor(K - k, share),
                        )
                    )
        # 5. Send.
        delta = next_delta
    return losses


def _masks(tensors):
    """Keras' masks of a nest of tensors, a list."""
    return [
        getattr(tensor, "_keras_mask", None)
        for tensor in keras.tree.flatten(tensors)
    ]
