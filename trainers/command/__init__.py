"""What all command lines share: errors, signals, working directories."""
