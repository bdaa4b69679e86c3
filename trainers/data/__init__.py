"""Datasets and their input pipelines."""
