"""The tests of clusters once more, without any privileges."""

import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

from tests.command_line import ROOT

_FILES = [
    f"tests/{path.name}"
    for path in sorted(pathlib.Path(ROOT, "tests").glob("cluster*_test.py"))
]
# All that root may do more than others. (Its files stay its own, for it is
# often only root who can reach the interpreter.)
_WITHOUT = ("setpriv", "--bounding-set=-all", "--inh-caps=-all")


def run(home, *selected):
    """Runs tests of clusters as who may do nothing out of the ordinary."""
    if os.geteuid() != 0:
        pytest.skip("the tests themselves run without privileges")
    if shutil.which("setpriv") is None:
        pytest.skip("there is no setpriv")
    done = subprocess.run(
        [
            *_WITHOUT, sys.executable, "-m", "pytest", "-q", "-p",
            "no:cacheprovider", f"--basetemp={home / 'tests'}", *selected,
            *_FILES,
        ],
        cwd=ROOT, capture_output=True, text=True, timeout=3600, check=False,
    )
    assert done.returncode == 0, done.stdout[-5000:]
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) > 4


def test_there_are_no_privileges():
    """What the others rely on: such a process may not open a raw socket."""
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("it needs root and setpriv")
    done = subprocess.run(
        [
            *_WITHOUT, sys.executable, "-c", "import socket; socket.socket("
            "socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)",
        ],
        capture_output=True, text=True, check=False,
    )
    assert "PermissionError" in done.stderr


def test_clusters(tmp_path):
    run(tmp_path, "-m", "slow or not slow", "-k", "listens or dies or before")


@pytest.mark.slow
def test_all_of_clusters(tmp_path):
    run(tmp_path, "-m", "slow or not slow")
