"""Prints what the harness covers, and what it leaves out, after the tests."""

import functools

import pytest


@pytest.fixture
def tell(record_property):
    """Function that adds a line to what is printed in the end."""
    return functools.partial(record_property, "covered")


def pytest_terminal_summary(terminalreporter):
    lines = [
        value
        for reports in terminalreporter.stats.values()
        for report in reports
        if getattr(report, "when", None) == "call"
        for name, value in report.user_properties
        if name == "covered"
    ]
    if lines:
        terminalreporter.section("differential harness")
        for line in lines:
            terminalreporter.write_line(line)
