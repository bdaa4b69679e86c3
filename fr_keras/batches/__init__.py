"""Handling of data: the spec of batches, reading them, labels."""
