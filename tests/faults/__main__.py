"""`python -m tests.faults`."""

from tests.faults.table import main

main()
