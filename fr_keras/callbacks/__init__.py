"""Callbacks: checkpoints, diagnostics, and handling of NaNs."""
