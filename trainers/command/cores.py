"""The CPU cores that this process may use."""

import os


def available():
    """Numbers of the cores, where the system tells, a list of int."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))
