"""Under which conditions something was measured."""

import os
import platform
import re
import shlex
import shutil
import subprocess
import sys

import keras
import tensorflow as tf

import fr_keras
from trainers.command import cores


def text():
    """Machine, versions and command, in one paragraph."""
    given = shlex.join(a for a in sys.argv[1:] if "workdir" not in a)
    return (
        f"Measured by `python -m trainers.benchmark {given} --workdir=...` on "
        f"{processor()}, {len(cores.available())} cores; "
        f"fr_keras {fr_keras.__version__}{commit()}, TensorFlow "
        f"{tf.__version__}, Keras {keras.__version__}, Python "
        f"{platform.python_version()}."
    )


def processor():
    try:
        with open("/proc/cpuinfo") as file:
            return re.search(r"model name\s*: (.*)", file.read())[1].strip()
    except (OSError, TypeError):
        return platform.processor() or platform.machine()


def commit():
    """The commit of the library, or empty if it is in no repository."""
    if not shutil.which("git"):
        return ""
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=os.path.dirname(fr_keras.__file__), capture_output=True, text=True,
    )
    return f" (commit {done.stdout.strip()})" if done.returncode == 0 else ""
