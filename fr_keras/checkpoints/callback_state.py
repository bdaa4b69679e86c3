"""The state of callbacks: what of them changes while a network trains."""

import collections
import inspect

import numpy as np

_PLAIN = (bool, int, float, str, type(None))


class CallbackState:
    """Keeps apart what callbacks were made with and what they became.

    Any attribute that changes after training has begun is state, if it
    consists of numbers, strings, arrays, lists, tuples and dicts: the patience
    that `EarlyStopping` has left, the best value that `ModelCheckpoint` has
    seen. What has the name of an argument of its class is not. A callback that
    knows better has `get_state()`, which returns such values in a dict, and
    `set_state(state)`.

    Args:
        callbacks: list of `keras.callbacks.Callback`, after `on_train_begin`.
    """

    def __init__(self, callbacks):
        counts = collections.Counter()
        self._callbacks = {}
        for callback in callbacks:
            name = type(callback).__name__
            self._callbacks[f"{name}_{counts[name]}"] = callback
            counts[name] += 1
        self._before = {
            name: _attributes(callback)
            for name, callback in self._callbacks.items()
            if not hasattr(callback, "get_state")
        }
        self._restored = collections.defaultdict(set)

    def get(self, arrays):
        """The state of all callbacks.

        Args:
            arrays: list, to which arrays are added.

        Returns:
            Dict for JSON, which refers to `arrays` by their place.
        """
        return {
            name: _encode(self._state(name, callback), arrays)
            for name, callback in self._callbacks.items()
        }

    def _state(self, name, callback):
        if hasattr(callback, "get_state"):
            return callback.get_state()
        before = self._before[name]
        return {
            key: value for key, value in _attributes(callback).items()
            if key in self._restored[name]
            or not _are_equal(value, before.get(key, _Other))
        }

    def set(self, states, arrays):
        """Gives callbacks their state back.

        Args:
            states: as `get` returned it; callbacks that are not there any
                more are left out.
            arrays: list of arrays.
        """
        for name, callback in self._callbacks.items():
            if name not in states:
                continue
            state = _decode(states[name], arrays)
            if hasattr(callback, "set_state"):
                callback.set_state(state)
                continue
            for key in state.keys() & _attributes(callback).keys():
                setattr(callback, key, state[key])
                self._restored[name].add(key)


class _Other:
    """Equal to no value."""


def _attributes(callback):
    """The attributes of a callback that can be kept, copied."""
    given = {"params", *inspect.signature(type(callback)).parameters}
    found = {}
    for key, value in vars(callback).items():
        if key in given:
            continue
        try:
            found[key] = _copy(value)
        except TypeError:
            continue
    return found


def _copy(value):
    """A copy of a value that can be kept; raises TypeError for others."""
    kind = type(value)
    if kind in _PLAIN:
        return value
    if kind is np.ndarray and value.dtype.kind in "biuf":
        return value.copy()
    if isinstance(value, np.generic) and value.dtype.kind in "biuf":
        return value
    if kind in (list, tuple):
        return kind(map(_copy, value))
    if kind is dict and all(type(key) is str for key in value):
        return {key: _copy(entry) for key, entry in value.items()}
    raise TypeError(f"Cannot be kept: {value!r}")


def _are_equal(a, b):
    if type(a) is not type(b):
        return False
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(_are_equal, a, b))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(
            _are_equal(a[key], b[key]) for key in a
        )
    return np.array_equal(a, b)


def _encode(value, arrays):
    """A value for JSON."""
    if isinstance(value, (np.ndarray, np.generic)):
        arrays.append(np.asarray(value))
        return {"array": len(arrays) - 1, "scalar": not np.ndim(value)}
    if isinstance(value, (list, tuple)):
        return {
            "list": [_encode(entry, arrays) for entry in value],
            "tuple": isinstance(value, tuple),
        }
    if isinstance(value, dict):
        return {"dict": {k: _encode(v, arrays) for k, v in value.items()}}
    return value


def _decode(value, arrays):
    """The value that `_encode` was given."""
    if not isinstance(value, dict):
        return value
    if "array" in value:
        array = arrays[value["array"]]
        return array[()] if value["scalar"] else array
    if "list" in value:
        entries = [_decode(entry, arrays) for entry in value["list"]]
        return tuple(entries) if value["tuple"] else entries
    return {k: _decode(v, arrays) for k, v in value["dict"].items()}
