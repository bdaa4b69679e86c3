"""A Keras model becomes K modules: its graph, its costs, the partition."""
