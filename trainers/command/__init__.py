"""Shared by all command lines: errors, signals, working directories."""
