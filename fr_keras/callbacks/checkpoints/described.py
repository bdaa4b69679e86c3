"""Descriptions of objects, for JSON: classes, configurations, functions.

They leave out what a training that goes on may do otherwise: names, which
depend on what else was made in a process, and what only says how variables
begin.
"""

import hashlib
import json
import math

import keras
import numpy as np

_LEFT_OUT = {
    "batch_input_shape", "batch_shape", "build_config", "module", "name",
    "registered_name", "seed", "shared_object_id", "trainable",
    # Of models in layers, which name theirs; the layers are described.
    "inbound_nodes", "input_layers", "output_layers",
}

# Longer ones are described by a checksum.
_LONGEST = 500


def of_object(thing):
    """The class of something and its configuration, if it tells it."""
    try:
        config = thing.get_config()
    except Exception:  # Users' classes may raise anything.
        return [type(thing).__name__]
    return [type(thing).__name__, {"config": plain(config)}]


def of_function(function):
    """A function by its name, and by those that it uses."""
    code = getattr(function, "__code__", None)
    return [
        getattr(function, "__name__", type(function).__name__),
        *(code.co_names if code else ()),
    ]


def plain(value):
    """A value of a configuration for JSON, without what is left out."""
    value = _simplified(value)
    text = json.dumps(value)
    is_long = len(text) > _LONGEST and not isinstance(value, dict)
    return hashlib.sha256(text.encode()).hexdigest() if is_long else value


def _simplified(value):
    if isinstance(value, float) and math.isnan(value):
        return "nan"  # Equal to itself.
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, dict):
        kind = str(value.get("class_name"))
        if kind == "__lambda__":
            return "lambda"  # Its code depends on where it stands.
        if "DTypePolicy" in kind:
            return json.dumps(value.get("config"), default=str)
        return {
            str(key): plain(entry) for key, entry in value.items()
            if key not in _LEFT_OUT and not str(key).endswith("_initializer")
        }
    if isinstance(value, (list, tuple)):
        return [plain(entry) for entry in value]
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray) or hasattr(value, "numpy"):
        return np.asarray(value).tolist()
    if isinstance(value, keras.dtype_policies.DTypePolicy):
        return value.name
    if hasattr(value, "get_config"):
        return of_object(value)
    if callable(value):
        return of_function(value)
    return type(value).__name__
