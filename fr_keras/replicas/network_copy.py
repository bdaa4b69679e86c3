"""Copies of a network for further pipelines."""

import keras
import numpy as np

from fr_keras.cutting import copying
from fr_keras.cutting.pairs import CannotCopy, Pairs
from fr_keras.engine import private


class NetworkCopy:
    """A copy of a network, whose modules form another pipeline.

    Args:
        parts: list of `keras.layers.Layer`: the network, or its modules.
        number: int, the number of the pipeline, at least 1. Pipelines with
            different numbers draw different random numbers.

    Attributes:
        parts: list of copies of the argument.
        number: the argument.

    Raises:
        ValueError: if a layer cannot be copied.
    """

    def __init__(self, parts, number):
        self._originals = parts
        self.number = number
        self._copy_of = {}
        self._are_paired = [False] * len(parts)
        self.parts = [_copy(part) for part in parts]

    def copy_of(self, variable):
        """Returns the copy of a variable of the network, once it is built.

        Args:
            variable: `keras.Variable`.
        """
        if id(variable) not in self._copy_of:
            self._pair()
        return self._copy_of[id(variable)]

    def is_built(self):
        """Whether all layers have their weights."""
        return all(map(_is_built, self.parts))

    def refresh(self):
        """Copies the weights, state and flags of the network once more."""
        self._copy_of = {}
        self._are_paired = [False] * len(self.parts)
        self._pair()

    def _pair(self):
        """Pairs the variables of those parts that have been built."""
        for i, (part, copy) in enumerate(zip(self._originals, self.parts)):
            if self._are_paired[i] or not _is_built(copy):
                continue
            self._are_paired[i] = True
            pairs = Pairs(part, copy)
            pairs.copy_state()
            self._copy_of |= {id(a): b for a, b in pairs.variables}
            for seed in _seeds(copy):
                # Another key gives independent random numbers.
                key, counter = keras.ops.convert_to_numpy(seed)
                seed.assign(np.array([key + self.number, counter], key.dtype))

    def seeds(self):
        """Returns the states of the random generators of its layers, a list."""
        found = {
            id(seed): seed for part in self.parts for seed in _seeds(part)
        }
        return list(found.values())


def _is_built(part):
    return all(layer.built for layer in private.sublayers(part))


def _seeds(part):
    return [
        generator.state for layer in private.sublayers(part)
        for generator in private.own_seed_generators(layer)
    ]


def _copy(part):
    """Copies a network or a module.

    Args:
        part: `keras.layers.Layer`.

    Returns:
        `keras.layers.Layer`.
    """
    way_out = "Use `replicas=1`, or implement `get_config` in its class."
    try:
        copy, kept, _ = copying.copy_model(part)
    except CannotCopy as error:
        raise ValueError(
            f"With `replicas`, every pipeline has a copy of each layer. {error}"
        ) from error
    if kept:
        layer, reason = next(iter(kept.items()))
        raise ValueError(
            "With `replicas`, every pipeline has a copy of each layer, but "
            f"'{layer.name}' cannot be copied: {reason}. {way_out} "
            f"Received: model={part!r}"
        )
    return copy
