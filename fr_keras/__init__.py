"""Features Replay for Keras: deep networks trained as modules in parallel."""

import keras

if keras.backend.backend() != "tensorflow":
    raise ImportError(
        "fr_keras needs Keras to run on TensorFlow: set the environment "
        "variable KERAS_BACKEND=tensorflow. "
        f"Received: backend={keras.backend.backend()!r}"
    )

from fr_keras import cluster, layers, models
from fr_keras.algorithms import (
    ALGORITHMS,
    DDG,
    DNI,
    Backprop,
    FeaturesReplay,
    GPipe,
    Pipeline,
)
from fr_keras.callbacks import diagnostics
from fr_keras.callbacks.checkpoints import (
    CheckpointError,
    Checkpoints,
    restore_weights,
)
from fr_keras.callbacks.on_nan import NonFiniteError, OnNaN
from fr_keras.cutting.partition import partition
from fr_keras.delays.delay_policy import DelayPolicy
from fr_keras.engine.cpu_devices import use_cpu_devices
from fr_keras.profiling.measurement import measure_costs
from fr_keras.versions import VERSION
from fr_keras.visualization.plotting import plot_modules
from fr_keras.visualization.summary import summary

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
    "Pipeline",
    "cluster",
    "diagnostics",
    "layers",
    "measure_costs",
    "models",
    "partition",
    "plot_modules",
    "restore_weights",
    "summary",
    "use_cpu_devices",
]
