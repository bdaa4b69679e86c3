"""Describes a training's configuration: network, optimizer and method.

Descriptions are lists and dicts for JSON.
"""

import inspect
import json

import keras

from fr_keras.algorithms.base import Algorithm
from fr_keras.callbacks.checkpoints.descriptions import of_object, plain
from fr_keras.callbacks.checkpoints.network import of_network

# Settings that only matter in training.
_OF_TRAINING = {
    "dropout", "dtype", "momentum", "rate", "recurrent_dropout", "stddev"
}
WEIGHTS_ALONE = "`fr_keras.restore_weights` restores its weights alone"


def of_training(model):
    """Describes a training, for `check`.

    Args:
        model: algorithm.

    Returns:
        Dict for JSON, without the network if that is not built yet.
    """
    described = {
        "optimizer": of_optimizer(model.optimizer.shared),
        "settings": _settings(model),
    }
    if model.built:
        described["network"] = of_network(model.parts)
    return described


def complete(described, model):
    """Adds the network to a description, now that it is built.

    Args:
        described: as returned by `of_training`; changed and returned.
        model: algorithm.
    """
    if "network" not in described:
        described["network"] = of_network(model.parts)
    return described


def of_optimizer(optimizer):
    """Describes an optimizer: its class and configuration.

    A numeric learning rate is state, set by callbacks; a schedule is
    configuration.

    Args:
        optimizer: `keras.optimizers.Optimizer`.

    Returns:
        List for JSON.
    """
    described = of_object(optimizer)
    excluded = getattr(optimizer, "_exclude_from_weight_decay_pattern", None)
    if excluded is not None:
        described.append(sorted(excluded.pattern.split("|")))
    return _without_rates(described)


def check(mine, manifest):
    """Checks that a training is configured like another.

    Args:
        mine: as returned by `of_training`.
        manifest: dict, whose entry "configuration" describes the other.

    Raises:
        ValueError: in one line, what differs.
    """
    for name, what in (
        ("optimizer", "another optimizer"),
        ("settings", "other settings of the algorithm"),
        ("network", "another network"),
    ):
        if name in mine:
            _check_equal(
                what, mine[name], manifest["configuration"][name], manifest
            )


def check_network(model, manifest):
    """Checks that a network with another's weights computes the same.

    Settings that only matter in training, such as dropout rates, may differ.

    Args:
        model: algorithm that is built.
        manifest: as for `check`.

    Raises:
        ValueError: in one line, what differs.
    """
    _check_equal("another network", *map(_without_training, (
        of_network(model.parts), manifest["configuration"]["network"]
    )), manifest)


def _without_rates(value):
    """A description of an optimizer without numeric learning rates."""
    return _pruned(value, lambda key, entry: not (
        key == "learning_rate" and isinstance(entry, (int, float))
    ))


def _without_training(value):
    """A description of a network without settings for training only."""
    return _pruned(value, lambda key, entry: not (
        key in _OF_TRAINING or key.endswith(("_regularizer", "_constraint"))
    ))


def _pruned(value, stays):
    if isinstance(value, list):
        return [_pruned(entry, stays) for entry in value]
    if not isinstance(value, dict):
        return value
    return {
        key: _pruned(entry, stays) for key, entry in value.items()
        if stays(key, entry)
    }


def _check_equal(what, mine, theirs, manifest):
    # Versions of Keras may differ in their arguments.
    is_same_keras = manifest["versions"]["keras"] == keras.__version__
    difference = _first_difference(
        json.loads(json.dumps(mine)), theirs, is_same_keras
    )
    if difference is not None:
        where, mine, theirs = difference
        if where and not where.endswith("="):
            where += " "
        hint = "" if what == "another network" else f"; {WEIGHTS_ALONE}"
        raise ValueError(
            f"It was written with {what}: {where}{theirs!r:.100}{hint}. "
            f"Received: {where}{mine!r:.100}"
        )


def _first_difference(mine, theirs, all_keys, where=""):
    """The first place where two descriptions differ, or `None`.

    Args:
        mine: value of JSON.
        theirs: the same.
        all_keys: bool, whether to compare keys that only one of them has.
        where: str, the text before a value in messages.
    """
    if isinstance(mine, dict) and isinstance(theirs, dict):
        for key in [*mine, *theirs]:
            if not (all_keys or key in mine and key in theirs):
                continue
            inside = where if key in ("config", "layer") else (
                f"{where.partition(' with ')[0]} with {key}=" if where
                else f"{key}="
            )
            found = _first_difference(
                mine.get(key), theirs.get(key), all_keys, inside
            )
            if found:
                return found
        return None
    if isinstance(mine, list) and isinstance(theirs, list):
        if mine and mine[:1] == theirs[:1] and isinstance(mine[0], str):
            where = mine[0]  # A class.
        for a, b in zip(mine, theirs):
            found = _first_difference(a, b, all_keys, where)
            if found:
                return found
        if len(mine) == len(theirs):
            return None
        length = min(len(mine), len(theirs))
        return where, *(
            more[length:length + 1] or "nothing more" for more in (mine, theirs)
        )
    return None if mine == theirs else (where, mine, theirs)


def _settings(model):
    """The arguments specific to an algorithm, and what crosses links."""
    names = inspect.signature(type(model).__init__).parameters.keys()
    common = inspect.signature(Algorithm.__init__).parameters.keys()
    found = {
        name: plain(getattr(model, name))
        for name in sorted({*(names - common), "link_dtype"})
        if hasattr(model, name)
    }
    if found.get("num_microbatches") == 1:
        del found["num_microbatches"]  # Features Replay of 0.1.0 had none.
    return found
