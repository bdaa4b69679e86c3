"""The command lines of a cluster: the same numbers, and what goes wrong."""

import contextlib
import functools
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time

import keras
import numpy as np
import pytest

import fr_keras  # noqa: F401, registers its layers.
from fr_keras.cluster import interface, status
from tests import command_line
from tests.command_line import ROOT
from tests.local_workers import start_worker, workers

JOB = (
    "--flagfile=configs/digits_fr.cfg", "--num_modules=2", "--epochs=3",
    "--steps_per_execution=4", "--checkpoint_steps=8", "--deterministic",
)


def train(workdir, data_dir, *flags, module="trainers.train", own=()):
    return command_line.start(
        module, *own, *JOB, f"--workdir={workdir}", f"--data_dir={data_dir}",
        *flags,
    )


def finish(process):
    done = command_line.finish(process)
    return done.returncode, done.stdout, [
        line for line in done.stderr.splitlines()
        if re.match(r"\w+\.py: ", line)
    ]


REPLICAS = ("--replicas=2",)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory, data_dir):
    """The weights that one process ends with, by its own flags."""

    @functools.cache
    def train_once(flags=()):
        workdir = tmp_path_factory.mktemp("unbroken") / "run"
        assert finish(train(workdir, data_dir, *flags))[0] == 0
        return weights(workdir)

    return train_once


def weights(workdir):
    return keras.models.load_model(workdir / "model.keras").get_weights()


def assert_equal(mine, theirs):
    for a, b in zip(mine, theirs, strict=True):
        np.testing.assert_array_equal(a, b)


def killed(pattern, line, how, tmp_path, data_dir, *flags, after=0):
    """A run of `local_cluster` of which a worker gets a signal.

    So many seconds after it has said something.
    """
    process = train(
        tmp_path / "run", data_dir, *flags, module="trainers.local_cluster",
        own=["--num_workers=2", "--deterministic", "--allow_root", "--"],
    )
    pids, out = [], ""
    for line_of_run in process.stdout:
        out += line_of_run
        pids += map(int, re.findall(r"process (\d+)", line_of_run))
        if line in line_of_run:
            time.sleep(after)
            os.kill(pids[1], how)
            break
    status, rest, told = finish(process)
    assert any(re.search(pattern, text) for text in told), told
    return status, out + rest, told


@pytest.mark.slow  # tests/unprivileged_test.py runs it in any case.
def test_worker_dies_and_the_run_goes_on(unbroken, tmp_path, data_dir):
    status, out, told = killed(
        r"Worker 1 at .* (is lost: no connection|was restarted); resuming",
        "epoch   1/3", signal.SIGKILL, tmp_path, data_dir,
    )
    assert status == 0, told
    assert "Resuming from" in out
    assert any("has died" in text for text in told)
    assert_equal(weights(tmp_path / "run"), unbroken())


@pytest.mark.slow
def test_worker_with_copies_is_lost_and_returns(unbroken, tmp_path, data_dir):
    """Module 1 and its copy are on one worker, module 2 and its on another."""
    status, out, told = killed(
        r"Worker 1 at .* (is lost: no connection|was restarted); resuming",
        "epoch   1/3", signal.SIGKILL, tmp_path, data_dir, *REPLICAS,
    )
    assert status == 0, told
    assert "Resuming from" in out
    assert_equal(weights(tmp_path / "run"), unbroken(REPLICAS))


@pytest.mark.slow
def test_worker_hangs(tmp_path, data_dir):
    status, _, told = killed(
        r"Worker 1 at .* is lost: no answer for 3 s, and all --recoveries",
        "epoch   1/3", signal.SIGSTOP, tmp_path, data_dir,
        "--worker_patience=3", "--recoveries=0",
    )
    assert status == 3, told
    assert list((tmp_path / "run" / "checkpoints").glob("ckpt-*.index"))


@pytest.mark.slow
@pytest.mark.parametrize("after", [0.1, 0.17, 0.23, 0.31, 0.38, 0.5])
def test_worker_hangs_while_a_checkpoint_is_read(after, tmp_path, data_dir):
    """Whatever training waits for, what watches the workers does not."""
    status, _, told = killed(
        r"Worker 1 at .* is lost: no answer for 3 s, and all --recoveries",
        "epoch   1/3", signal.SIGSTOP, tmp_path, data_dir,
        "--worker_patience=3", "--recoveries=0", "--checkpoint_steps=1",
        "--steps_per_execution=1", after=after,
    )
    assert status == 3, told


@pytest.mark.slow
@pytest.mark.parametrize("how, flags", [
    (signal.SIGKILL, ()), (signal.SIGSTOP, ()), (signal.SIGKILL, REPLICAS),
])
def test_goes_on_with_the_others(how, flags, unbroken, tmp_path, data_dir):
    """Modules that share a device compute the same."""
    with contextlib.ExitStack() as stack:
        processes, addresses = zip(*(start_worker() for _ in range(2)))
        for process in processes:
            stack.callback(process.communicate)
            stack.callback(process.send_signal, signal.SIGKILL)
        run = train(
            tmp_path / "run", data_dir, f"--workers={','.join(addresses)}",
            "--on_lost_worker=shrink", "--wait_for_workers=2",
            "--worker_patience=3", *flags,
        )
        for line in run.stdout:
            if "epoch   1/3" in line:
                processes[0].send_signal(how)
                break
        status, out, told = finish(run)
    assert status == 0, told
    assert (
        f"train.py: Not available after 2 s: {addresses[0]}; resuming with "
        f"{addresses[1]}"
    ) in told
    # (It ended in the one that is left.)
    assert told[-1].startswith(
        f"train.py: {4 if flags else 2} modules share worker:0/CPU:0 and take "
        "turns there"
    )
    assert "use fewer modules or more workers" in told[-1]
    assert "Resuming from" in out
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["devices"] == [
        "/job:worker/replica:0/task:0/device:CPU:0"
    ] * (4 if flags else 2)
    assert_equal(weights(tmp_path / "run"), unbroken(flags))


@pytest.mark.slow
def test_none_is_left(tmp_path, data_dir):
    process, address = start_worker()
    run = train(
        tmp_path / "run", data_dir, f"--workers={address}",
        "--on_lost_worker=shrink", "--wait_for_workers=1",
    )
    for line in run.stdout:
        if "epoch   1/3" in line:
            process.kill()
            break
    process.communicate()
    status, _, told = finish(run)
    assert status == 3
    assert told[-1] == (
        "train.py: None of the workers is available after 1 s. "
        f"Received: {address}"
    )


def test_worker_is_absent(tmp_path, data_dir):
    with workers(1) as [there], socket.socket() as free:
        free.bind(("127.0.0.1", 0))  # It does not listen.
        absent = f"127.0.0.1:{free.getsockname()[1]}"
        status, _, told = finish(train(
            tmp_path / "run", data_dir, f"--workers={there},{absent}",
            "--wait_for_workers=1",
        ))
    assert status == 3
    assert told == [
        f"train.py: Waiting for worker 1 at {absent}: no connection",
        f"train.py: Worker 1 at {absent} must answer within 1 s: start it, or "
        "allow more time with `wait` (--wait_for_workers). Received: no "
        "connection",
    ]


OTHER = """
import sys
import tensorflow as tf

server = tf.distribute.Server({sys.argv[1]: ["127.0.0.1:0"]}, sys.argv[1], 0)
print(server.target, flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize(
    "job, expected",
    [
        ("fr_keras_9_9_9__tensorflow_3_0_0_deterministic",
         r"must have the versions .* fr_keras \S+, tensorflow \S+; .* "
         r"Received: fr_keras 9\.9\.9, tensorflow 3\.0\.0$"),
        ("worker", r"must have been started .* the job 'worker'$"),
    ],
)
def test_worker_of_another_kind(job, expected, tmp_path, data_dir):
    with subprocess.Popen(
        [sys.executable, "-c", OTHER, job], stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    ) as other:
        address = other.stdout.readline().strip().removeprefix("grpc://")
        status, _, told = finish(
            train(tmp_path / "run", data_dir, f"--workers={address}")
        )
        other.kill()
    assert status == 3
    assert re.search(expected, told[-1]), told


def test_port_is_taken():
    process, address = start_worker()
    try:
        port = address.rpartition(":")[2]
        done = command_line.command(
            "trainers.worker", f"--port={port}", "--allow_root"
        )
    finally:
        process.kill()
        process.communicate()
    assert done.returncode == 2
    assert (
        f"worker.py: A worker must be able to listen on port {port} of the "
        "interface 'lo'; choose another `port` or `network` (--port, "
        "--interface). Received: a port that is in use"
    ) in done.stderr


LISTENING = """
import socket

import fr_keras.cluster
from fr_keras.cluster import interface

port = fr_keras.cluster.start_worker(allow_root=True)
for one in interface._sockets(port, "LISTEN"):
    with one:
        print(one.getsockopt(
            socket.SOL_SOCKET, socket.SO_BINDTODEVICE, 16
        ).rstrip(bytes(1)).decode())
"""


def test_listens_on_loopback_alone():
    done = subprocess.run(
        [sys.executable, "-c", LISTENING], cwd=ROOT, capture_output=True,
        text=True, timeout=100, check=False,
    )
    assert done.stdout.split() == ["lo"], done.stderr


PROGRAM = """
import socket
import sys

import tensorflow as tf

import fr_keras.cluster
from fr_keras.cluster import interface

with socket.socket() as taken:
    taken.bind(("127.0.0.1", 0))
    taken.listen()
    port = taken.getsockname()[1]
    if sys.argv[2] == "free":
        taken.close()
    fr_keras.cluster.connect([sys.argv[1]], f"127.0.0.1:{port}")
for one in interface._sockets(port, "LISTEN"):
    with one:
        print(one.getsockopt(
            socket.SOL_SOCKET, socket.SO_BINDTODEVICE, 16
        ).rstrip(bytes(1)).decode())
with tf.device("/job:worker/task:0"):
    assert float(tf.ones([3])[1]) == 1.0  # It works all the same.
"""


def test_program_listens_on_loopback_alone():
    """The run's own port too, if all workers are on loopback."""
    with workers(1) as [address]:
        done, taken = (
            subprocess.run(
                [sys.executable, "-c", PROGRAM, address, port], cwd=ROOT,
                capture_output=True, text=True, timeout=100, check=False,
            ) for port in ("free", "taken")
        )
    assert (done.returncode, done.stdout.split()) == (0, ["lo"]), done.stderr
    last = taken.stderr.strip().splitlines()[-1]
    assert "WorkerError" in last and "must be able to listen" in last


@pytest.mark.parametrize("is_loopback", [True, False])
def test_connections_from_before_are_ended(is_loopback):
    """Those of strangers; of this machine they may stay on loopback."""
    name = next(
        (n for _, n in socket.if_nameindex() if (n == "lo") == is_loopback),
        None,
    )
    if name is None:
        pytest.skip("there is no other interface")
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        port = listening.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client:
            accepted, _ = listening.accept()
            with accepted:
                interface.restrict(port, name)
                if is_loopback:
                    accepted.sendall(b"a")
                assert client.recv(1) == (b"a" if is_loopback else b"")
        # Again it is nothing new, which users may not do.
        interface.restrict(port, name)


@pytest.mark.slow
def test_patience_is_as_long_as_it_says():
    """gRPC gives up after 20 s by itself, and says that nobody answers."""
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        address = f"127.0.0.1:{mute.getsockname()[1]}"
        with pytest.raises(status.WorkerError, match="no answer for 22 s"):
            status.ask(address, 22.0)


@pytest.mark.slow
@pytest.mark.parametrize(
    "how, expected",
    [
        (signal.SIGTERM, 143), (signal.SIGHUP, 143), (signal.SIGINT, 130),
        (signal.SIGKILL, -signal.SIGKILL),
    ],
)
def test_workers_end_with_who_started_them(how, expected, tmp_path, data_dir):
    process = train(
        tmp_path / "run", data_dir, "--epochs=100000", "--recoveries=0",
        module="trainers.local_cluster",
        own=["--num_workers=2", "--deterministic", "--allow_root", "--"],
    )
    pids = [
        int(re.search(r"process (\d+)", process.stdout.readline())[1])
        for _ in range(2)
    ]
    while not (tmp_path / "run" / "checkpoints" / "checkpoint").exists():
        assert process.poll() is None
        time.sleep(0.1)
    process.send_signal(how)
    assert process.wait(timeout=60) == expected
    deadline = time.monotonic() + 30
    while any(map(is_alive, pids)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(map(is_alive, pids))


def is_alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
