"""The CPU cores that this process may use."""

import os


def available():
    """List of core numbers; all cores if the system reports no subset."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))
