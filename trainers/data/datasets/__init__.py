"""Datasets that need no network, as TFDS builders.

Importing a module of this package registers its dataset.
"""
