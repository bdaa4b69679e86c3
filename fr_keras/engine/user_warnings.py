"""Warnings that point to the line in the user's program."""

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
    """Issues a warning that points to the user's call.

    The number of frames up to there varies, since Keras may be in between.

    Args:
        message: str.
    """
    level, frame = 2, sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(
        _LIBRARIES
    ):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, stacklevel=level)
