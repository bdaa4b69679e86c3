"""Who may have a worker do something: nobody but its own user, if asked."""

import os
import shutil
import socket
import subprocess
import sys

import pytest

from fr_keras.cluster import WorkerError, start_worker, worker
from tests.command_line import ROOT, command, complaint, start
from trainers.workers import private_network

IN_IT = [sys.executable, "-m", "trainers.private_network"]
LISTENS = """
import socket, sys
with socket.create_server(("127.0.0.1", 0)) as listening:
    address = listening.getsockname()
    socket.create_connection(address).close()
    print(address[1], flush=True)
    sys.stdin.readline()
"""


def run(*arguments, first=(), **options):
    return subprocess.run(
        [*first, *IN_IT, *arguments], cwd=ROOT, capture_output=True, text=True,
        timeout=100, check=False, **options,
    )


@pytest.fixture
def possible():
    done = run("true")
    if done.returncode:
        pytest.skip(done.stderr)


@pytest.mark.skipif(os.geteuid() != 0, reason="this is not root")
def test_root_is_refused_unless_asked():
    said = complaint(command("trainers.worker", "--port=0"))
    assert said.startswith("worker.py: A worker must not run as root")
    assert "--allow_root" in said and said.endswith("Received: user root")
    with pytest.raises(WorkerError, match="must not run as root"):
        start_worker()


@pytest.mark.parametrize("user, mapped, is_root", [
    (0, "0 0 4294967295", True), (0, "0 1000 1", False),
    (1000, "0 0 4294967295", False), (0, None, True),
])
def test_who_is_root(user, mapped, is_root, monkeypatch, tmp_path):
    """Root in a container of a user's own may do no more than that user."""
    if mapped is not None:
        (tmp_path / "uid_map").write_text(f"         {mapped}\n")
    monkeypatch.setattr(os, "geteuid", lambda: user)
    monkeypatch.setattr(
        worker, "open", lambda path: open(tmp_path / "uid_map"), raising=False
    )
    assert worker._is_root() is is_root


def test_nobody_else_reaches_it(possible):
    process = subprocess.Popen(
        [*IN_IT, sys.executable, "-c", LISTENS], cwd=ROOT, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )
    # It has connected to itself.
    port = int(process.stdout.readline())
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), 5)
    process.communicate("\n", timeout=60)
    assert process.returncode == 0


def test_a_network_is_told_from_another(possible, monkeypatch):
    """Whoever has the variable only, of a network that was left, is outside."""
    told = run(
        sys.executable, "-c",
        "import os; from trainers.workers import private_network; "
        "print(os.environ['FR_KERAS_PRIVATE_NETWORK'], "
        "private_network.is_entered())",
    ).stdout.split()
    assert told[1] == "True"
    assert not private_network.is_entered()
    monkeypatch.setenv("FR_KERAS_PRIVATE_NETWORK", told[0])
    assert not private_network.is_entered()


@pytest.mark.parametrize("arguments, expected", [
    ([], "expected a command. Received: nothing"),
    (["no/such/program"], "no/such/program: No such file or directory"),
])
def test_mistakes(arguments, expected, possible):
    done = run(*arguments)
    assert done.returncode == 1
    assert done.stderr == f"private_network.py: {expected}\n"


# Root without any capability gets no network, as on systems that give none.
_WITHOUT = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"]


@pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("setpriv") is None,
    reason="it needs root and setpriv",
)
def test_a_system_that_gives_none():
    done = run("true", first=_WITHOUT)
    assert done.returncode == 1
    assert done.stderr.startswith(
        "private_network.py: the system does not allow this user to have a "
        "private network: "
    )
    for wanted, told in (
        ("yes", "local_cluster.py: --private_network=yes: private_network"),
        ("auto", "every user of this machine can connect to the workers: "),
    ):
        done = subprocess.run(
            [
                *_WITHOUT, sys.executable, "-m", "trainers.local_cluster",
                f"--private_network={wanted}", "--", "--workdir=unused",
            ],
            cwd=ROOT, capture_output=True, text=True, timeout=100, check=False,
        )
        assert done.returncode == 2
        assert told in done.stderr
        # Where others are, root still has to ask.
        assert ("must not run as root" in done.stderr) == (wanted == "auto")


@pytest.mark.slow
def test_a_cluster_in_it(possible, tmp_path):
    """Workers start there without being asked for root, and the run trains."""
    process = start(
        "trainers.local_cluster", "--num_workers=1", "--private_network=yes",
        "--", "--flagfile=configs/digits_fr.cfg", "--depth=20",
        "--num_modules=1", "--epochs=1",
        f"--data_dir={tmp_path / 'data'}", f"--workdir={tmp_path / 'run'}",
        stdin=subprocess.DEVNULL,
    )
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert "Worker 0: 127.0.0.1:" in out
    assert (tmp_path / "run" / "model.keras").exists()
