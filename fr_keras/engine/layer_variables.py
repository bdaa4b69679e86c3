"""All variables that a layer holds, tracked by Keras or not."""

import keras
import tensorflow as tf

from fr_keras.engine import private


def all_variables(layer):
    """Returns all variables of a layer and its sublayers.

    Besides `layer.variables`, these are the variables of metrics in layers and
    those that Keras does not track, like the states of a stateful RNN.

    Args:
        layer: `keras.layers.Layer`, or any other operation.

    Returns:
        List of `keras.Variable`, each once.
    """
    if not isinstance(layer, keras.layers.Layer):
        return []
    found = {id(variable): variable for variable in layer.variables}
    for sublayer in private.sublayers(layer):
        for variable in [
            *(
                variable for metric in private.own_metrics(sublayer)
                for variable in metric.variables
            ),
            *untracked_variables(sublayer),
        ]:
            found.setdefault(id(variable), variable)
    return list(found.values())


def untracked_variables(layer):
    """Returns the variables that a layer has as attributes but does not track.

    Args:
        layer: `keras.layers.Layer`; its sublayers are not included.

    Returns:
        List of `keras.Variable`, sorted by attribute name.
    """
    tracked = {
        id(variable)
        for group in private.own_variables(layer) for variable in group
    }
    found = {
        id(leaf): leaf for leaf in _attributes(layer)
        if isinstance(leaf, keras.Variable) and id(leaf) not in tracked
    }
    return list(found.values())


def tf_variables(layer):
    """Returns the TensorFlow variables that a layer has as attributes.

    Args:
        layer: `keras.layers.Layer`; its sublayers are not included.

    Returns:
        List of `tf.Variable`, sorted by attribute name.
    """
    found = {
        id(leaf): leaf for leaf in _attributes(layer)
        if isinstance(leaf, tf.Variable)
    }
    return list(found.values())


def _attributes(layer):
    """Yields a layer's attributes, and the items of its own lists and dicts."""
    for name in sorted(vars(layer)):
        value = vars(layer)[name]
        # (Optimizers and Keras' own lists are objects of other classes.)
        if isinstance(value, (list, tuple)):
            yield from value
        elif isinstance(value, dict):
            yield from value.values()
        else:
            yield value
