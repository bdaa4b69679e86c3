"""A line at the bottom of a terminal that says what a command is doing."""

import contextlib
import sys

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

_line = None


class _Line:
    """The line.

    Args:
        progress: `rich.progress.Progress`.
    """

    def __init__(self, progress):
        self._progress = progress
        self._task = progress.add_task("", total=None)

    def show(self, text, completed, total):
        self._progress.update(
            self._task, description=text, completed=completed, total=total
        )


@contextlib.contextmanager
def shown():
    """Shows the line in a context, if standard error is a terminal.

    What is printed in the context appears above the line.
    """
    global _line
    if _line is not None or not sys.stderr.isatty():
        yield
        return
    with Progress(
        TextColumn("{task.description}", markup=False), BarColumn(20),
        TimeRemainingColumn(),
        # Lines that are printed are not wrapped, so that paths stay whole.
        console=Console(stderr=True, soft_wrap=True), transient=True,
        refresh_per_second=4,
        # Not if it goes elsewhere, as it would end up in the terminal.
        redirect_stdout=sys.stdout.isatty(),
    ) as progress:
        _line = _Line(progress)
        try:
            yield
        finally:
            _line = None


def show(text, completed=0, total=None):
    """Changes the line, if there is one.

    Args:
        text: str.
        completed: int, what is done of `total`.
        total: int, or `None` if unknown.
    """
    if _line is not None:
        _line.show(text, completed, total)
