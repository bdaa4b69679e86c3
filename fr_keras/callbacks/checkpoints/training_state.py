"""The state that must be saved to resume a training."""

import keras

from fr_keras.callbacks.checkpoints.configuration import WEIGHTS_ALONE
from fr_keras.engine import layer_variables, private


def variables(model):
    """Returns all variables that one iteration leaves for the next.

    Args:
        model: algorithm, when everything that training needs is built.

    Returns:
        Dict from groups to lists of `tf.Variable`:

        - `network`: weights, averages of batch normalization, and the state
          of random layers. The split of the network does not matter.
        - `random`: the modules' own random number generators.
        - `optimizer`: the state of all optimizers, the learning rate, and the
          iteration number.
        - `metrics`: the state of the metrics in this epoch.
        - `method`: the state of the algorithm: replay queues, error gradients,
          and the iterations since `compile`, which determine the warm-up.
    """
    groups = {
        "network": network_variables(model),
        "random": [module.random_state for module in model.pipeline.modules],
        "optimizer": model.optimizer.variables,
        "metrics": [v for metric in model.metrics for v in metric.variables],
        "method": model.training.state_variables(),
    }
    return {
        name: tf_variables(of_group) for name, of_group in groups.items()
    }


def network_variables(model):
    """Returns the variables of the original network, in its own order."""
    found = {}
    for part in model.parts:
        for variable in part.variables:
            found.setdefault(id(variable), variable)
        # States of stateful layers, which Keras does not save.
        for layer in private.sublayers(part):
            for variable in layer_variables.untracked_variables(layer):
                found.setdefault(id(variable), variable)
    return list(found.values())


def describe(model):
    """Describes a model and its state, for `check`.

    Args:
        model: as for `variables`.

    Returns:
        Dict for JSON.
    """
    return {
        "algorithm": type(model).__name__,
        "num_modules": model.num_modules,
        "replicas": model.replicas,
        "cut": [
            len(module.submodel.variables) for module in model.pipeline.modules
        ],
        "split_points": model.split_points and list(model.split_points),
        "network": network(model),
        "trainable": _trainable(model),
        **{
            name: [_shape_and_dtype(v) for v in of_group]
            for name, of_group in variables(model).items()
            if name != "network"
        },
    }


def _trainable(model):
    """The indices of the trained variables among the network's."""
    trained = {
        id(variable) for module in model.pipeline.modules
        for variable in module.trainable_variables
    }
    return [
        i for i, variable in enumerate(network_variables(model))
        if id(variable) in trained
    ]


def network(model):
    """Describes the original network, for `check_network`."""
    found = network_variables(model)
    return [
        [variable.path, *_shape_and_dtype(tf_variable)]
        for variable, tf_variable in zip(found, tf_variables(found))
    ]


def check_model(model, described):
    """Checks that a model matches a description.

    Args:
        model: algorithm, whose state need not exist yet.
        described: as returned by `describe`.

    Raises:
        ValueError: in one line, what differs.
    """
    replicas = described.get("replicas", 1)  # 0.1.0 had none.
    if not isinstance(replicas, int) or replicas < 1:
        raise ValueError(
            "Its number of replicas must be a positive integer. "
            f"Received: {replicas!r:.60}"
        )
    for what, mine in (
        ("algorithm", type(model).__name__), ("num_modules", model.num_modules)
    ):
        if described.get(what) != mine:
            raise ValueError(
                f"It was written with {what}={described.get(what)}; "
                f"{WEIGHTS_ALONE}. "
                f"Received: {what}={mine}"
            )
    if model.built:
        check_network(model, described)


def check_state(model, described):
    """Checks that a model's state matches a description.

    Args:
        model: as for `variables`.
        described: as returned by `describe`.

    Raises:
        ValueError: in one line, what differs.
    """
    check_network(model, described)
    mine = describe(model)
    for name, what in _WORDS.items():
        if name == "method" and not has_same_replicas(model, described):
            continue
        if mine[name] != described.get(name):
            way_out = _way_to_its_split(described) if name == "cut" else ""
            raise ValueError(
                f"It was written with another {what}; {way_out}"
                f"{WEIGHTS_ALONE}. Received: "
                f"{_first_difference(mine[name], described.get(name))}"
            )


def has_same_replicas(model, described):
    """Whether as many pipelines were trained as there are now.

    Otherwise, the state of the method cannot be restored: every pipeline has
    its own examples in its queues.

    Args:
        model: algorithm.
        described: as returned by `describe`.
    """
    return described.get("replicas", 1) == model.replicas


_WORDS = {
    "cut": "split, by the number of variables in each module",
    "trainable": "set of trainable variables, by their indices",
    "random": "random state",
    "optimizer": "optimizer",
    "metrics": "set of metrics",
    "method": "kind of batches or settings of the algorithm",
}


def _way_to_its_split(described):
    """How to get the modules of a description, the beginning of a sentence."""
    if "split_points" not in described:
        # 0.1.0, whose splits `find_split_points` finds by default.
        found = "fr_keras.cutting.partition.find_split_points(model, K)"
    elif described["split_points"] is None:  # Ready-made modules.
        return ""
    else:
        found = f"{described['split_points']!r:.200}"
    return f"to resume, pass split_points={found}; "


def check_network(model, described):
    """Checks that a model's weights match a description.

    Args:
        model: algorithm.
        described: as returned by `describe`.

    Raises:
        ValueError: in one line, which differ.
    """
    theirs = described["network"]
    mine = network(model)
    # Names depend on the other objects created in a process.
    for (path, *my_own), other in zip(mine, theirs):
        if my_own != other[1:]:
            raise ValueError(
                f"It was written with another network, which has '{other[0]}' "
                f"of shape {other[1]} and dtype {other[2]}. "
                f"Received: '{path}' of shape {my_own[0]} and dtype "
                f"{my_own[1]}"
            )
    if len(mine) != len(theirs):
        raise ValueError(
            "It was written with another network, which has "
            f"{len(theirs)} variables. "
            f"Received: {len(mine)} variables"
        )


def tf_variables(found):
    """Returns the variables in the form TensorFlow's checkpoints expect."""
    return [v.value if isinstance(v, keras.Variable) else v for v in found]


def _shape_and_dtype(variable):
    shape = variable.shape
    return [
        None if shape.rank is None else shape.as_list(), variable.dtype.name
    ]


def _first_difference(mine, theirs):
    """Describes where `mine` first differs from `theirs`."""
    theirs = theirs if isinstance(theirs, list) else []
    if all(isinstance(entry, int) for entry in mine):
        return f"{mine} instead of {theirs}"
    if len(mine) != len(theirs):
        return f"{len(mine)} instead of {len(theirs)} entries"
    return next(
        f"{a} instead of {b}" for a, b in zip(mine, theirs) if a != b
    )
