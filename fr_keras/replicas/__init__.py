"""Replicas: copies of the modules that learn together."""
