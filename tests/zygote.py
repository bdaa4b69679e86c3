"""A process that has imported what takes seconds, and forks for each command.

`tests/command_line.py` starts it. It ends with the process that did.
"""

import array
import importlib
import json
import os
import runpy
import select
import signal
import socket
import sys

# First what keeps TensorFlow quiet while it is imported. No command line is
# among them, since its flags would be defined twice.
PRELOADED = (
    "trainers", "fr_keras", "matplotlib.pyplot", "sklearn.model_selection",
    "tensorboard.plugins.hparams.api", "tensorflow_datasets",
)


def serve(path):
    """Forks for each request that comes; returns it, in the new process."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # Nobody waits for keepers.
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen()
        print("ready", flush=True)
        while True:
            ready, _, _ = select.select([listening, sys.stdin], [], [])
            if sys.stdin in ready:
                sys.exit()  # It is closed.
            connection, _ = listening.accept()
            with connection:
                if not os.fork():
                    listening.close()
                    return keep(connection)


def keep(connection):
    """Forks again, and tells the end of that process; returns only there."""
    text, files, _, _ = socket.recv_fds(connection, 2**20, 2)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    pid = os.fork()
    if not pid:
        connection.close()
        for number, file in enumerate(files, start=1):
            os.dup2(file, number)
            os.close(file)
        return json.loads(text)
    for file in files:
        os.close(file)
    os.close(0)
    connection.sendall(array.array("i", [pid]).tobytes())
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    connection.sendall(array.array("i", [code]).tobytes())
    os._exit(0)


def become(request):
    """Makes this process one that was started by `python -m`."""
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    if request["new_session"]:
        os.setsid()
    # A shell may have started the tests with interrupts ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.argv = ["", *request["arguments"]]  # The module puts in its path.
    sys.orig_argv = [
        sys.executable, "-m", request["module"], *request["arguments"]
    ]


if __name__ == "__main__":
    for name in PRELOADED:
        importlib.import_module(name)
    asked = serve(sys.argv[1])
    become(asked)
    del sys.modules["trainers"]  # Which looks at the environment.
    runpy.run_module(asked["module"], run_name="__main__", alter_sys=True)
