"""The networks of many runs and their initial weights."""

import keras

import fr_keras
from fr_keras.engine import private


def make_all(make, num_modules, seeds):
    """Makes a network for each run and splits it into modules.

    Args:
        make: as for `Laboratory`.
        num_modules: int, K.
        seeds: list of R ints.

    Returns:
        Tuple of two lists: the modules of one of the networks, which are
        `keras.Model`s, and for each module the initial values in all runs, as
        for `Module`.

    Raises:
        ValueError: if the network cannot be split or has random layers.
    """
    initial = {}
    for seed in dict.fromkeys(seeds):
        submodels = _make(make, num_modules, seed)
        initial[seed] = [
            [
                [v.numpy() for v in variables] for variables in
                (m.trainable_variables, m.non_trainable_variables)
            ]
            for m in submodels
        ]
    return submodels, [*zip(*(initial[seed] for seed in seeds))]


def _make(make, num_modules, seed):
    """Makes the modules of one run."""
    keras.utils.set_random_seed(seed)
    network = make()
    for layer in private.sublayers(network):
        if private.own_seed_generators(layer):
            raise ValueError(
                "The network must not have layers that draw random "
                f"numbers. Received: layer={layer!r}"
            )
    return (
        fr_keras.partition(network, num_modules) if num_modules > 1
        else [network]
    )
