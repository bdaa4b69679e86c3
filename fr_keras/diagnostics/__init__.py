"""Quantities of a training run, and the callbacks that log them."""

from fr_keras.diagnostics.busy_shares import BusyShares
from fr_keras.diagnostics.convergence_bound import ConvergenceBound
from fr_keras.diagnostics.delta_residual import DeltaResidual
from fr_keras.diagnostics.downhill_steps import DownhillSteps
from fr_keras.diagnostics.feature_drift import FeatureDrift
from fr_keras.diagnostics.gradient_norm import GradientNorm
from fr_keras.diagnostics.replay_queues import ReplayQueues
from fr_keras.diagnostics.sufficient_direction import SufficientDirection
from fr_keras.diagnostics.throughput import Throughput
from fr_keras.diagnostics.update_ratio import UpdateRatio

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
