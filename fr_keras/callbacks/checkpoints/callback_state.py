"""The state of callbacks: attributes that change during training."""

import collections
import inspect

import numpy as np
import tensorflow as tf

_PLAIN = (bool, int, float, type(None))


class CallbackState:
    """Tells the state of callbacks from their configuration.

    Any attribute that changes after training has begun is state, if it
    consists of numbers, arrays, lists, tuples and dicts, such as the remaining
    patience of `EarlyStopping` or the best value seen by `ModelCheckpoint`.
    Attributes named like an argument of their class are not state, nor are
    strings, which may be the paths of output files. A callback overrides this
    with `get_state()`, which returns such values, and strings, in a dict, and
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
        """Returns the state of all callbacks.

        Args:
            arrays: list, to which arrays are added.

        Returns:
            Dict for JSON, which refers to `arrays` by index.
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

    def set(self, states):
        """Restores the state of callbacks.

        Args:
            states: as returned by `decoded`; callbacks that no longer exist
                are ignored.

        Raises:
            ValueError: in one line, if it is not their state.
        """
        for name, callback in self._callbacks.items():
            if name not in states:
                continue
            if hasattr(callback, "set_state"):
                callback.set_state(states[name])
                continue
            for key, value in states[name].items():
                if _is_state_of(callback, key, value):
                    setattr(callback, key, value)
                    self._restored[name].add(key)


class _Other:
    """Equal to no value."""


def decoded(states, arrays):
    """Decodes the result of `CallbackState.get`.

    Args:
        states: dict from JSON.
        arrays: list of arrays.

    Returns:
        Dict from names of callbacks to dicts.

    Raises:
        ValueError: in one line, if it was not made by `CallbackState.get`.
    """
    try:
        found = {name: _decode(s, arrays) for name, s in states.items()}
    except (
        AttributeError, IndexError, KeyError, TypeError, ValueError
    ) as error:
        raise ValueError(
            "Its state of callbacks is damaged. "
            f"Received: {error!r:.100}"
        ) from error
    for name, state in found.items():
        if not isinstance(state, dict) or not all(
            isinstance(key, str) for key in state
        ):
            raise ValueError(
                f"Its state of {name} must be a dict of attributes. "
                f"Received: {state!r:.60}"
            )
    return found


def _is_state_of(callback, key, value):
    """Whether a value is state of an attribute; if not, it is ignored.

    Raises:
        ValueError: in one line, if the attribute has state of another kind.
    """
    kept = _attributes(callback)
    if key not in kept:
        # Created in training, not by a class.
        return key.isidentifier() and not (
            hasattr(callback, key) or key in _arguments(callback)
        )
    present = kept[key]
    numbers = (int, float, np.generic)
    if _is_huge(value) and not _is_huge(present) or not (
        present is None or value is None or type(value) is type(present)
        or isinstance(value, numbers) and isinstance(present, numbers)
    ):
        raise ValueError(
            f"Its state of {type(callback).__name__} must match that of the "
            f"callback, which has {key}={present!r:.60}. "
            f"Received: {key}={value!r:.60}"
        )
    return True


def _is_huge(value):
    """Whether Keras cannot compute with an integer."""
    return isinstance(value, int) and not -(2**63) <= value < 2**63


def _arguments(callback):
    """The names of all arguments of a callback's constructors."""
    return {
        name for kind in type(callback).__mro__ if "__init__" in vars(kind)
        for name in inspect.signature(kind.__init__).parameters
    }


def _attributes(callback):
    """Copies of the attributes of a callback that can be saved."""
    given = {"params", *_arguments(callback)}
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
    """Copies a value that can be saved; raises TypeError for others."""
    kind = type(value)
    if kind in _PLAIN:
        return value
    if kind is np.ndarray and _has_numbers(value.dtype):
        return value.copy()
    if isinstance(value, np.generic) and _has_numbers(value.dtype):
        return value
    if kind in (list, tuple):
        return kind(map(_copy, value))
    if kind is dict and all(type(key) in (str, int) for key in value):
        return {key: _copy(entry) for key, entry in value.items()}
    raise TypeError(
        "Only numbers, arrays, lists, tuples and dicts can be saved. "
        f"Received: {value!r}"
    )


def _has_numbers(dtype):
    try:
        dtype = tf.as_dtype(dtype)
    except TypeError:
        return False
    return dtype.is_floating or dtype.is_integer or dtype.is_bool


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
    """Encodes a value for JSON."""
    if isinstance(value, (np.ndarray, np.generic)):
        arrays.append(np.asarray(value))
        return {"array": len(arrays) - 1, "scalar": not np.ndim(value)}
    if isinstance(value, (list, tuple)):
        return {
            "list": [_encode(entry, arrays) for entry in value],
            "tuple": isinstance(value, tuple),
        }
    if isinstance(value, dict):
        # In pairs, since JSON keys are strings.
        return {"dict": [[k, _encode(v, arrays)] for k, v in value.items()]}
    return value


def _decode(value, arrays):
    """Restores a value from the result of `_encode`."""
    if not isinstance(value, dict):
        return value
    if "array" in value:
        if value["array"] not in range(len(arrays)):  # Also not negative.
            raise IndexError(f"there is no array {value['array']!r:.60}")
        array = arrays[value["array"]]
        return array[()] if value["scalar"] else array
    if "list" in value:
        entries = [_decode(entry, arrays) for entry in value["list"]]
        return tuple(entries) if value["tuple"] else entries
    return {key: _decode(entry, arrays) for key, entry in value["dict"]}
