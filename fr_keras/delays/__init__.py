"""What is done about late gradients: look-ahead and learning rates."""
