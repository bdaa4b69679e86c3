"""Splits a Keras model into K modules: its graph, its costs, the partition."""
