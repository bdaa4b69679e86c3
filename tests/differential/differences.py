"""Differences of arrays, of variables by name, and of nests of results."""

import re

import numpy as np

# What is smaller than this is compared as if it had this size: a bias before
# batch normalization is zero, but for rounding.
_SMALLEST_SCALE = 1e-2


def distance(a, b):
    """The largest difference, relative to the largest element of `b`."""
    if not b.size:
        return 0.0
    a, b = a.astype("float64"), b.astype("float64")
    scale = max(np.max(np.abs(b)), _SMALLEST_SCALE)
    return np.max(np.abs(a - b)) / scale


def _compare_arrays(a, b, tolerance):
    """Says what is different about two arrays, or returns `None`."""
    a, b = np.asarray(a), np.asarray(b)
    if (a.shape, a.dtype) != (b.shape, b.dtype):
        return f"{a.dtype}{a.shape} for {b.dtype}{b.shape}"
    if not np.issubdtype(b.dtype, np.inexact):
        return None if np.array_equal(a, b) else f"{_short(a)} for {_short(b)}"
    off = distance(a, b)
    if off <= tolerance:
        return None
    return f"off by {off:.1e}: {_short(a)} for {_short(b)}"


def _short(array):
    return np.array2string(array.ravel()[:3], precision=7)


def compare_states(states, expected, tolerance):
    states, expected = _by_common_names(states, expected)
    for name in expected.keys() - states.keys():
        yield f"'{name}' is missing"
    for name in states.keys() - expected.keys():
        yield f"'{name}' is not Keras'"
    for name in sorted(states.keys() & expected.keys()):
        ours, theirs = list(states[name]), expected[name]
        if len(ours) != len(theirs):
            yield f"'{name}': {len(ours)} variables for {len(theirs)}"
            continue
        for value in theirs:
            problems = [_compare_arrays(a, value, tolerance) for a in ours]
            best = problems.index(None) if None in problems else 0
            ours.pop(best)
            if problems[best]:
                yield f"'{name}' {problems[best]}"


def _by_common_names(states, expected):
    """Leaves out the numbers of names that only one of the two has.

    A layer whose configuration is without its name is called `my_layer_1` in
    a copy.
    """
    common = states.keys() & expected.keys()

    def renamed(states):
        result = {}
        for name, values in states.items():
            if name not in common:
                layer, *attributes = name.split("/")
                name = "/".join([re.sub(r"_\d+$", "", layer), *attributes])
            result[name] = [*result.get(name, []), *values]
        return result

    return renamed(states), renamed(expected)


def compare_nests(ours, theirs, tolerance, path):
    if isinstance(theirs, dict):
        if not isinstance(ours, dict) or sorted(ours) != sorted(theirs):
            yield f"{path}: {ours if not hasattr(ours, 'keys') else [*ours]} " \
                f"for {[*theirs]}"
            return
        for name, value in theirs.items():
            yield from compare_nests(
                ours[name], value, tolerance, f"{path}/{name}"
            )
    elif isinstance(theirs, (list, tuple)):
        if type(ours) is not type(theirs) or len(ours) != len(theirs):
            yield f"{path}: {ours!r} for {theirs!r}"
            return
        for i, (a, b) in enumerate(zip(ours, theirs)):
            yield from compare_nests(a, b, tolerance, f"{path}[{i}]")
    elif isinstance(theirs, (str, type(None))):
        if ours != theirs:
            yield f"{path}: {ours!r} for {theirs!r}"
    else:
        problem = _compare_arrays(ours, theirs, tolerance)
        if problem:
            yield f"{path} {problem}"
