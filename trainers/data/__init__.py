"""Datasets, and the pipelines that read them."""
