r"""What can go wrong with a run, and how it ends.

    python -m tests.faults

makes each of these faults happen to a real run of the command line, and writes
the table in docs/reliability.md. `tests/faults_test.py` holds the table to it.
A fault is a function: its docstring says what goes wrong, and it returns how
the command that met it ended.
"""

from tests.faults import (  # noqa: F401, what they define is in FAULTS.
    checkpoints,
    clusters,
    directories,
    disks,
    numbers,
    signals,
)
from tests.faults.base import FAULTS, make_base, row
from tests.faults.table import documented

__all__ = ["FAULTS", "documented", "make_base", "row"]
