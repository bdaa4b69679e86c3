"""Training by the library against training by the reference, in float64."""

import operator

import keras
import numpy as np

import fr_keras
from tests import reference, reference_of_models

BATCH = 4
RATE = 2.0**-4
MOMENTUM = 0.875


def clones(network, model):
    """Copies of a model's modules, not touched by the library afterwards."""
    if not isinstance(network, list):
        return fr_keras.FeaturesReplay(
            network, split_points=model.split_points
        ).modules
    copies = []
    for module in model.modules:
        copy = keras.models.clone_model(module)
        for ours, theirs in zip(copy.variables, module.variables):
            ours.assign(theirs)
        copies.append(copy)
    return copies


class Ahead(fr_keras.DelayPolicy):
    """Factors that are exact in binary, so that float64 agrees."""

    def play(self, delay, momentum):
        return 0.5 * delay + momentum

    def replay(self, delay, momentum):
        return 2.0 + 0.125 * delay

    def learning_rate(self, delay):
        return 2.0**-delay

    def decayed_learning_rate(self, delay):
        return 1.5 * 2.0**-delay

    def rate_factor(self, delay, share):
        """The factor at a share of the highest learning rate, as documented."""
        return 2.0**-delay * 1.5 ** (1 - share)


def check(
    network, x, more, plain_loss, num_modules=3, rtol=1e-10, steps=4, fit=None,
    rate=RATE, ahead=False, **compiled,
):
    """Trains by the library and by the reference, and compares all state.

    Args:
        network: Keras model.
        x: nest of arrays, all batches, each of `BATCH` examples but the last,
            which may be smaller.
        more: tuple of nests of arrays, what `plain_loss` takes.
        plain_loss: function `(outputs, *more) -> scalar`, for the reference.
        num_modules: int.
        rtol: relative tolerance.
        steps: int, iterations in one call.
        fit: arguments of `fit` besides x.
        rate: float, the learning rate.
        ahead: bool, whether weights are predicted, as `Ahead` says.
        **compiled: arguments of `compile`.
    """
    policy = Ahead()
    model = fr_keras.FeaturesReplay(
        network, num_modules, weight_prediction=ahead,
        delay_policy=policy if ahead else None,
    )
    expected = clones(network, model)
    num_examples = len(keras.tree.flatten(x)[0])
    places = [slice(i, i + BATCH) for i in range(0, num_examples, BATCH)]
    batches = [
        keras.tree.map_structure(operator.itemgetter(place), (x, *more))
        for place in places
    ]
    losses = reference_of_models.features_replay(
        expected, lambda: reference.SGD(MOMENTUM, nesterov=False),
        lambda t: rate, batches, plain_loss,
        **{
            "play_ahead": lambda delay: policy.play(delay, MOMENTUM),
            "replay_ahead": lambda delay: policy.replay(delay, MOMENTUM),
            "rate_factor": policy.rate_factor,
        } if ahead else {},
    )
    model.compile(
        keras.optimizers.SGD(rate, MOMENTUM), steps_per_execution=steps,
        **compiled,
    )
    history = model.fit(x, batch_size=BATCH, shuffle=False, verbose=0, **fit)

    sizes = [len(range(num_examples)[place]) for place in places]
    np.testing.assert_allclose(
        history.history["loss"][0], np.average(losses, weights=sizes), rtol=rtol
    )
    for module, copy in zip(model.modules, expected):
        for ours, theirs in zip(module.variables, copy.variables):
            error = np.max(np.abs(ours.numpy() - theirs.numpy()))
            # (A bias before batch normalization stays zero but for rounding.)
            scale = max(np.max(np.abs(theirs.numpy())), 1e-4)
            assert error <= rtol * scale, (ours.path, error, scale)
    return model
