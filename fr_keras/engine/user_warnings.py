"""Warnings that point at the line of the user's program."""

import os
import sys
import warnings

import keras
import tensorflow as tf

_LIBRARIES = tuple(
    os.path.dirname(os.path.abspath(path)) + os.sep
    for path in (os.path.dirname(__file__), keras.__file__, tf.__file__)
)


def warn(message):
    """Warns at the line from which a library was called.

    Calls come from Keras' code as often as from the user's, so no fixed number
    of frames leads there.

    Args:
        message: str.
    """
    level, frame = 2, sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(
        _LIBRARIES
    ):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, stacklevel=level)
