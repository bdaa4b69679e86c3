"""Studies of how delays affect training, on one device."""
