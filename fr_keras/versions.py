"""Versions: of this library, and of those that numbers depend on."""

import keras
import tensorflow as tf

VERSION = "0.1.0"


def versions():
    """Dict from the names of the libraries to their versions, str."""
    return {
        "fr_keras": VERSION,
        "keras": keras.__version__,
        "tensorflow": tf.__version__,
    }
