"""Command lines that train and evaluate."""

import os
import sys
import tempfile


def _import_tensorflow_quietly():
    """Imports TensorFlow without its news about CUDA and oneDNN.

    They come before TensorFlow looks at TF_CPP_MIN_LOG_LEVEL, and would bury
    the one line that a mistake gets.
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

# TF_CPP_MIN_LOG_LEVEL=0 brings all messages back.
if os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3") != "0":
    _import_tensorflow_quietly()
