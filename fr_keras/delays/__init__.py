"""Compensation of late gradients: look-ahead and learning rates."""
