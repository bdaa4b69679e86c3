"""Command lines for training and evaluation."""

import contextlib
import multiprocessing
import os
import sys
import tempfile


@contextlib.contextmanager
def _announced(what):
    """Says on a terminal what takes seconds; the line disappears afterwards."""
    # (Processes that a command starts import this, too.)
    is_shown = (
        sys.stderr.isatty() and multiprocessing.parent_process() is None
    )
    if is_shown:
        print(what, end="", file=sys.stderr, flush=True)
    try:
        yield
    finally:
        if is_shown:
            print("\r\033[K", end="", file=sys.stderr, flush=True)


def _import_tensorflow_quietly():
    """Imports TensorFlow without its messages about CUDA and oneDNN.

    TensorFlow prints them before it reads TF_CPP_MIN_LOG_LEVEL, and they would
    bury our one-line error messages.
    """
    with _announced("Loading TensorFlow"), tempfile.TemporaryFile() as news:
        sys.stderr.flush()
        stderr = os.dup(2)
        os.dup2(news.fileno(), 2)
        try:
            import tensorflow  # noqa: F401
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)


if os.environ.setdefault("KERAS_BACKEND", "tensorflow") != "tensorflow":
    print(
        "fr_keras needs KERAS_BACKEND=tensorflow. "
        f"Received: KERAS_BACKEND={os.environ['KERAS_BACKEND']}",
        file=sys.stderr,
    )
    sys.exit(2)

# TF_CPP_MIN_LOG_LEVEL=0 restores all messages.
if os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3") != "0":
    _import_tensorflow_quietly()
