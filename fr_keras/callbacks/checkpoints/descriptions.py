"""Descriptions of objects, for JSON: classes, configurations, functions.

They leave out settings that may differ when training resumes: names, which
depend on the other objects created in a process, and settings that only
initialize variables.
"""

import hashlib
import json
import math

import keras
import numpy as np

_LEFT_OUT = {
    "batch_input_shape", "batch_shape", "build_config", "module", "name",
    "registered_name", "seed", "shared_object_id", "trainable",
    # Of nested models, where these are layer names; the layers are described.
    "inbound_nodes", "input_layers", "output_layers",
}

# Longer values are described by a checksum.
_LONGEST = 500


def of_object(thing):
    """Describes an object by its class and, if available, configuration."""
    try:
        config = thing.get_config()
    except Exception:  # Users' classes may raise anything.
        return [type(thing).__name__]
    return [type(thing).__name__, {"config": plain(config)}]


def of_function(function):
    """Describes a function by its name and the names it uses."""
    code = getattr(function, "__code__", None)
    return [
        getattr(function, "__name__", type(function).__name__),
        *(code.co_names if code else ()),
    ]


def plain(value):
    """Converts a value of a configuration for JSON, without `_LEFT_OUT`."""
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
            return "lambda"  # Its code depends on its location.
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
