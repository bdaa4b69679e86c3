"""Command lines for training and evaluation."""

import os
import sys
import tempfile


def _import_tensorflow_quietly():
    """Imports TensorFlow without its messages about CUDA and oneDNN.

    TensorFlow prints them before it reads TF_CPP_MIN_LOG_LEVEL, and they would
    bury our one-line error messages.
    """
    with tempfile.TemporaryFile() as news:
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
