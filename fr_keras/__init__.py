"""Features Replay for Keras: deep networks trained as modules in parallel."""

import keras

if keras.backend.backend() != "tensorflow":
    raise ImportError(
        "fr_keras needs Keras to run on TensorFlow: set the environment "
        "variable KERAS_BACKEND=tensorflow. "
        f"Received: backend={keras.backend.backend()!r}"
    )

from fr_keras import cluster, diagnostics, layers, models
from fr_keras.algorithms import (
    ALGORITHMS,
    DDG,
    DNI,
    Backprop,
    FeaturesReplay,
    GPipe,
)
from fr_keras.checkpoints import CheckpointError, Checkpoints, restore_weights
from fr_keras.delay_policy import DelayPolicy
from fr_keras.measurement import measure_costs
from fr_keras.on_nan import NonFiniteError, OnNaN
from fr_keras.partition import partition
from fr_keras.plotting import plot_modules
from fr_keras.summary import summary
from fr_keras.versions import VERSION

__version__ = VERSION

__all__ = [
    "ALGORITHMS",
    "Backprop",
    "CheckpointError",
    "Checkpoints",
    "DDG",
    "DNI",
    "DelayPolicy",
    "FeaturesReplay",
    "GPipe",
    "NonFiniteError",
    "OnNaN",
    "cluster",
    "diagnostics",
    "layers",
    "measure_costs",
    "models",
    "partition",
    "plot_modules",
    "restore_weights",
    "summary",
]
