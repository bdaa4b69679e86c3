"""Quantities of a training run, and the callbacks that log them."""

from fr_keras.diagnostics.gradient_norm import GradientNorm
from fr_keras.diagnostics.throughput import Throughput

__all__ = ["GradientNorm", "Throughput"]
