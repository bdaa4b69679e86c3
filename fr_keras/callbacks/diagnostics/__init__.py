"""Callbacks that log quantities of a training run."""

from fr_keras.callbacks.diagnostics.busy_shares import BusyShares
from fr_keras.callbacks.diagnostics.convergence_bound import ConvergenceBound
from fr_keras.callbacks.diagnostics.delta_residual import DeltaResidual
from fr_keras.callbacks.diagnostics.downhill_steps import DownhillSteps
from fr_keras.callbacks.diagnostics.feature_drift import FeatureDrift
from fr_keras.callbacks.diagnostics.gradient_norm import GradientNorm
from fr_keras.callbacks.diagnostics.replay_queues import ReplayQueues
from fr_keras.callbacks.diagnostics.sufficient_direction import (
    SufficientDirection,
)
from fr_keras.callbacks.diagnostics.throughput import Throughput
from fr_keras.callbacks.diagnostics.update_ratio import UpdateRatio

__all__ = [
    "BusyShares",
    "ConvergenceBound",
    "DeltaResidual",
    "DownhillSteps",
    "FeatureDrift",
    "GradientNorm",
    "ReplayQueues",
    "SufficientDirection",
    "Throughput",
    "UpdateRatio",
]
