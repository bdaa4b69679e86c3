"""Runs command lines as a user does, without seconds of imports each time."""

import array
import atexit
import functools
import json
import os
import pathlib
import select
import shutil
import socket
import subprocess
import sys
import tempfile
import threading

ROOT = pathlib.Path(__file__).parent.parent


def start(module, *arguments, variables=None, new_session=False, **options):
    """Starts `python -m module` with arguments, in the repository.

    Args:
        module: str, like `"trainers.train"`.
        *arguments: what else is on the command line.
        variables: dict of environment variables, beside those of the tests.
        new_session: bool, as `start_new_session` of `subprocess.Popen`.
        **options: for `subprocess.Popen`.

    Returns:
        `Process`, or, where the environment or options matter from the first
        import on, `subprocess.Popen`.
    """
    arguments = [*map(str, arguments)]
    environment = {**os.environ, **(variables or {})}
    if "TF_CPP_MIN_LOG_LEVEL" not in (variables or {}):
        # (Tests want more of TensorFlow's messages than users do.)
        environment.pop("TF_CPP_MIN_LOG_LEVEL", None)
    if not variables and not options:
        return Process(module, arguments, environment, new_session)
    return subprocess.Popen(
        [sys.executable, "-m", module, *arguments], cwd=ROOT, env=environment,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=new_session, **options,
    )


def finish(process, timeout=300):
    """Waits for a process; returns `subprocess.CompletedProcess`."""
    out, err = process.communicate(timeout=timeout)
    return subprocess.CompletedProcess(
        process.args, process.returncode, out, err
    )


def command(module, *arguments, **options):
    """Runs `python -m module`, as `start` and `finish` do."""
    return finish(start(module, *arguments, **options))


def complaint(done, status=2):
    """The one line on standard error."""
    assert done.returncode == status, (done.returncode, done.stderr)
    (line,) = done.stderr.splitlines()
    return line


class Process:
    """What the tests need of `subprocess.Popen`, for a forked process."""

    def __init__(self, module, arguments, environment, new_session):
        self.args = [sys.executable, "-m", module, *arguments]
        self.returncode = None
        request = {
            "module": module, "arguments": arguments,
            "environment": environment, "new_session": new_session,
        }
        (out, out_end), (err, err_end) = os.pipe(), os.pipe()
        self._connection = socket.socket(socket.AF_UNIX)
        self._connection.connect(_zygote())
        socket.send_fds(
            self._connection, [json.dumps(request).encode()], [out_end, err_end]
        )
        os.close(out_end)
        os.close(err_end)
        self.stdout, self.stderr = (os.fdopen(end) for end in (out, err))
        self.pid = self._receive()

    def _receive(self):
        (number,) = array.array(
            "i", self._connection.recv(4, socket.MSG_WAITALL)
        )
        return number

    def wait(self, timeout=None):
        if self.returncode is None:
            if not select.select([self._connection], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(self.args, timeout)
            self.returncode = self._receive()
            self._connection.close()
        return self.returncode

    def poll(self):
        try:
            return self.wait(0)
        except subprocess.TimeoutExpired:
            return None

    def send_signal(self, signum):
        if self.poll() is None:
            os.kill(self.pid, signum)

    def kill(self):
        self.send_signal(9)

    def communicate(self, timeout=None):
        said = {}

        def read(stream):
            with stream:
                said[stream] = stream.read()

        readers = [
            threading.Thread(target=read, args=[stream], daemon=True)
            for stream in (self.stdout, self.stderr)
        ]
        for reader in readers:
            reader.start()
        self.wait(timeout)
        for reader in readers:
            reader.join(timeout)
        return said[self.stdout], said[self.stderr]


@functools.cache
def _zygote():
    """Starts the process that forks; returns the path of its socket."""
    folder = tempfile.mkdtemp()
    path = os.path.join(folder, "zygote")
    environment = {
        name: value for name, value in os.environ.items()
        if name != "TF_CPP_MIN_LOG_LEVEL"
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.zygote", path], cwd=ROOT,
        # Only a process of one thread may fork.
        env={**environment, "OPENBLAS_NUM_THREADS": "1"},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )
    assert process.stdout.readline() == "ready\n"
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    atexit.register(process.kill)
    return path
