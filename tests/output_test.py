"""What a run says may be lost; the run is not."""

import errno
import io
import os
import subprocess
import sys

import pytest

from tests.command_line import ROOT
from trainers.command import output


class Failing(io.StringIO):
    def __init__(self, error):
        super().__init__()
        self.error = error

    def write(self, text):
        raise self.error

    def flush(self):
        raise self.error


@pytest.mark.parametrize("error", [
    OSError(errno.ENOSPC, "full"), OSError(errno.EIO, "gone"),
    ValueError("closed"),
])
def test_nothing_is_raised(error):
    stream = output.Unbreakable(Failing(error))
    assert stream.write("abc") == 3
    print("more", file=stream, flush=True)


def test_all_else_is_that_of_the_stream():
    inner = io.StringIO()
    stream = output.Unbreakable(inner)
    stream.write("abc")
    assert inner.getvalue() == stream.getvalue() == "abc"
    assert not stream.isatty()


PROGRAM = """
import sys
from absl import flags
from trainers.command import errors

def main():
    sys.stdin.read()  # Until nobody reads any more.
    for _ in range(3):
        errors.tell("a warning")
        print("a line" * 10_000, flush=True)
    with open(sys.argv[1], "w") as file:
        file.write("lived")

errors.parse_flags = lambda argv: flags.FLAGS.mark_as_parsed()
errors.run(main)
"""


def test_whoever_reads_may_go_away(tmp_path):
    read, write = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, tmp_path / "done"], cwd=ROOT,
        stdin=subprocess.PIPE, stdout=write, stderr=write,
    )
    os.close(write)
    os.close(read)
    process.communicate(timeout=100)
    assert process.returncode == 0
    assert (tmp_path / "done").read_text() == "lived"
