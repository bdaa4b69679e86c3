"""Descriptions of modules as text and pictures."""
