"""Datasets that are made without a network, as TFDS builders.

To import a module of this package registers its dataset.
"""
