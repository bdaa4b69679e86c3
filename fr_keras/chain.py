"""A chain of modules: the output of one is the input of the next."""

import re

import keras


def build(modules, x):
    """Builds modules one after the other, where that is not done yet.

    Args:
        modules: list of `fr_keras.module.Module`.
        x: nest of `keras.KerasTensor` or of tensors, data for the first.

    Returns:
        Tuple `(outputs, moves)`: the output of the last module, a nest, and
        for each module a list of bool, for each tensor of its output whether
        it has an error gradient.

    Raises:
        ValueError: if a module cannot take the output of the one below, has
            no weights, or shares some with another.
    """
    outputs, moves = x, [False] * len(keras.tree.flatten(x))
    all_moves = []
    owner = {}
    for k, module in enumerate(modules, start=1):
        inputs = outputs
        try:
            outputs, moves = module.build(
                inputs, moves, is_last=(k == len(modules))
            )
        except Exception as error:
            below = f"the output of module {k - 1}" if k > 1 else "the data"
            raise ValueError(
                f"Module {k}, '{module.submodel.name}', must take {below} "
                f"({plain(error)}). Received: {shapes(inputs)}"
            ) from error
        if not module.submodel.weights:
            raise ValueError(
                "Every module must have weights: one without has nothing to "
                "learn and belongs to the module before or after it. "
                f"Received: module {k}, '{module.submodel.name}'"
            )
        all_moves.append(moves)
        for variable in module.submodel.variables:
            if owner.setdefault(id(variable), k) != k:
                raise ValueError(
                    "A layer must belong to one module only. Received: "
                    f"'{variable.path}' in modules {owner[id(variable)]} "
                    f"and {k}"
                )
    return outputs, all_moves


def shapes(nest):
    """The shapes of a nest of tensors, for messages."""
    return keras.tree.map_structure(
        lambda x: None if x is None else tuple(x.shape), nest
    )


def plain(error):
    """An error's text in one line, without colours, for messages."""
    return " ".join(re.sub("\x1b\\[[0-9;]*m", "", str(error)).split())
