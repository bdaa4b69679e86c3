"""Features Replay for Keras: deep networks trained as modules in parallel."""

import keras

if keras.backend.backend() != "tensorflow":
    raise ImportError(
        "fr_keras needs Keras to run on TensorFlow: set the environment "
        "variable KERAS_BACKEND=tensorflow. "
        f"Received: backend={keras.backend.backend()!r}"
    )

from fr_keras import diagnostics, layers, models
from fr_keras.algorithms import (
    ALGORITHMS,
    DDG,
    DNI,
    Backprop,
    FeaturesReplay,
    GPipe,
)
from fr_keras.measurement import measure_costs
from fr_keras.partition import partition
from fr_keras.plotting import plot_modules
from fr_keras.summary import summary

__version__ = "0.1.0"

__all__ = [
    "ALGORITHMS",
    "Backprop",
    "DDG",
    "DNI",
    "FeaturesReplay",
    "GPipe",
    "diagnostics",
    "layers",
    "measure_costs",
    "models",
    "partition",
    "plot_modules",
    "summary",
]
