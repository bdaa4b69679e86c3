"""Costs of layers and modules, measured or estimated."""
