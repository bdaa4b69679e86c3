"""What `fr-keras doctor` examines."""
