"""Studies of what delays do to trainings, on one device."""
