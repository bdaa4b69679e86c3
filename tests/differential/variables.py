"""The variables of models, by names that do not depend on their order."""

import keras
import numpy as np

from fr_keras.engine.tied import SharedLayer

# Where Keras lists what is an attribute elsewhere.
_LISTS = {
    "_trainable_variables", "_non_trainable_variables", "_layers", "_metrics",
    "_seed_generators", "_tracker", "_losses", "_inbound_nodes",
    "_outbound_nodes", "_variables", "_self_unconditional_dependency_names",
}


def variables_of(models, metrics=True):
    """The variables of models, by name.

    Args:
        models: list of Keras models, or layers.
        metrics: bool, whether to list those of metrics.

    Returns:
        Dict from str to a list of arrays: most names are those of one
        variable; nested models may have layers of one name.
    """
    found, seen = {}, set()
    for model in models:
        if not metrics:
            seen |= {id(variable) for variable in model.metrics_variables}
        if _is_graph(model):
            _walk_graph(model, seen, found)
        else:
            _walk(model, model.name, seen, found)
        _walk_rest(model, seen, found)
    return found


def _is_graph(layer):
    return isinstance(layer, keras.Sequential) or hasattr(layer, "operations")


def _walk_graph(model, seen, found):
    # Whether a layer lies in a nested model makes no difference to its name.
    for layer in model.layers:
        if _is_graph(layer):
            _walk_graph(layer, seen, found)
        elif isinstance(layer, SharedLayer):
            owned = {id(variable) for variable in layer.owned}
            others = {id(v) for v in layer.layer.variables} - owned
            _walk(layer.layer, layer.name, seen | others, found)
            seen |= owned
        else:
            _walk(layer, layer.name, seen, found)


def _walk_rest(layer, seen, found):
    """What is no attribute of its layer goes by the name Keras gave it."""
    for variable in layer.variables:
        _walk(variable, variable.path, seen, found)


def _walk(item, name, seen, found):
    if id(item) in seen:
        return
    if isinstance(item, keras.Variable):
        seen.add(id(item))
        value = np.array(keras.ops.convert_to_numpy(item))
        found.setdefault(name, []).append(value)
    elif isinstance(
        item, (keras.Layer, keras.Metric, keras.random.SeedGenerator)
    ):
        seen.add(id(item))
        if _is_graph(item):
            for layer in item.layers:
                _walk(layer, f"{name}/{layer.name}", seen, found)
            return
        for attribute, value in sorted(vars(item).items()):
            if attribute not in _LISTS:
                _walk(value, f"{name}/{attribute.strip('_')}", seen, found)
    elif isinstance(item, dict):
        for key, value in item.items():
            _walk(value, f"{name}/{key}", seen, found)
    elif isinstance(item, (list, tuple)):
        for i, value in enumerate(item):
            _walk(value, f"{name}/{i}", seen, found)
