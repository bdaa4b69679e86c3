"""What looks at a training from outside: checkpoints, diagnostics, NaNs."""
