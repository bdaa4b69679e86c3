"""Which cases the fast tests run: a sample, cut once; the slow ones run all."""

import pytest

from tests.differential.harness import NUM_MODULES

# Whatever has a boundary has one here on both sides.
FAST_NUM_MODULES = (4,)


def parameters(names, fast):
    """Arguments of a test for all cases, and of a fast one for some.

    Args:
        names: iterable of str, or of tuples of it.
        fast: set of those that the fast tests run.

    Returns:
        List of `pytest.param(name, num_modules)`.
    """
    names = list(names)
    missing = fast - set(names)
    if missing:
        raise ValueError(f"`fast` must be of the cases. Received: {missing}")
    params = []
    for name in names:
        text = name if isinstance(name, str) else " ".join(name)
        if name in fast:
            params.append(
                pytest.param(name, FAST_NUM_MODULES, id=f"{text}, K=4")
            )
        params.append(
            pytest.param(
                name, NUM_MODULES, id=text.strip(), marks=pytest.mark.slow
            )
        )
    return params
