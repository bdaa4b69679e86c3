"""The tests of clusters once more, as a user without privileges."""

import os
import pathlib
import pwd
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


def as_nobody(*command, **options):
    """Runs a command as a user who may do nothing out of the ordinary."""
    nobody = pwd.getpwnam("nobody")
    return subprocess.run(
        [
            "setpriv", f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}",
            "--clear-groups", "--bounding-set=-all", "--inh-caps=-all",
            *command,
        ],
        cwd=ROOT, capture_output=True, text=True, check=False, **options,
    )


@pytest.fixture
def home(tmp_path):
    """A directory that is nobody's, and all that leads to it."""
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("only root, with setpriv, can become somebody else")
    if as_nobody(sys.executable, "-c", "import fr_keras.versions").returncode:
        pytest.skip(f"another user cannot read {ROOT}")
    for parent in [tmp_path, *tmp_path.parents][:3]:
        if parent.stat().st_uid == os.getuid():
            parent.chmod(0o755)
    os.chown(tmp_path, pwd.getpwnam("nobody").pw_uid, -1)
    return tmp_path


def run(home, *selected):
    done = as_nobody(
        sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider",
        f"--basetemp={home / 'tests'}", *selected, *_FILES,
        env={
            **os.environ, "HOME": str(home), "PYTHONDONTWRITEBYTECODE": "1",
            "PYTEST_ADDOPTS": "",
        },
        timeout=1500,
    )
    assert done.returncode == 0, done.stdout[-5000:]
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) > 5


def test_clusters(home):
    run(home)


@pytest.mark.slow
def test_clusters_for_long(home):
    run(home, "-m", "slow")
