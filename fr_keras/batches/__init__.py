"""What comes from data: the kind of batches, reading them, labels."""
