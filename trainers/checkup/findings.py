"""Findings: what an examination saw, one line each."""

import contextlib
import typing

OK, NOTE, FAIL = "ok", "note", "FAIL"


class Finding(typing.NamedTuple):
    """One line of the report.

    Attributes:
        level: `OK`; `NOTE`, worth knowing; or `FAIL`, training would not work
            or give wrong numbers.
        subject: str, what was examined.
        text: str, in one line; of a failure, with the way out.
    """

    level: str
    subject: str
    text: str

    def line(self):
        """The finding as a line of the report."""
        return f"{self.level:4}  {self.subject:13}  {self.text}"


@contextlib.contextmanager
def failures_of(subject, report):
    """Reports an exception as a finding, so that other examinations follow.

    Args:
        subject: str, as of `Finding`.
        report: callable that takes a `Finding`.
    """
    try:
        yield
    except Exception as error:  # Whatever a broken installation raises.
        lines = str(error).strip().splitlines() or [""]
        report(Finding(FAIL, subject, f"{type(error).__name__}: {lines[0]}"))
