"""The line that says what a command is doing, on a terminal and elsewhere."""

import os
import pathlib
import pty
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent
LONG = "/a/path/" + "that/is/longer/than/a/line/" * 5
PROGRAM = f"""
import time
from trainers.command import live_line
live_line.show("before")
with live_line.shown():
    live_line.show("loading [digits]")
    time.sleep(0.5)
    print("results in {LONG}", flush=True)
    live_line.show("epoch 1/2", 3, 8)
    time.sleep(0.5)
print("after")
"""


def run(**options):
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM], cwd=ROOT,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "80"}, **options,
    )


def read(terminal):
    """What was written to a terminal, until all its users are gone."""
    found = b""
    while True:
        try:
            found += os.read(terminal, 1 << 16)
        except OSError:
            return found.decode()


def test_nothing_is_added_without_a_terminal():
    process = run(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.communicate() == (f"results in {LONG}\nafter\n", "")


@pytest.mark.parametrize("to_a_file", [False, True])
def test_on_a_terminal(to_a_file):
    terminal, other_end = pty.openpty()
    process = run(
        stdout=subprocess.PIPE if to_a_file else other_end, stderr=other_end
    )
    os.close(other_end)
    said = read(terminal)
    os.close(terminal)
    printed = process.communicate()[0].decode() if to_a_file else said
    assert "loading [digits]" in said and "epoch 1/2" in said
    assert "before" not in said
    # From the first moment, and gone before anything else is shown.
    assert said.startswith("Loading TensorFlow\r\033[K")
    assert f"results in {LONG}" in printed and "after" in printed
    if to_a_file:
        assert printed == f"results in {LONG}\nafter\n"
        assert LONG not in said
    assert process.wait() == 0
