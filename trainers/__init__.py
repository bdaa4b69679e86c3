"""Command lines that train and evaluate."""

import os
import sys

# Before TensorFlow is imported: no news about CUDA, oneDNN and instruction
# sets on the terminal. TF_CPP_MIN_LOG_LEVEL=0 brings them back.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

if os.environ.setdefault("KERAS_BACKEND", "tensorflow") != "tensorflow":
    print(
        "fr_keras needs KERAS_BACKEND=tensorflow. "
        f"Received: KERAS_BACKEND={os.environ['KERAS_BACKEND']}",
        file=sys.stderr,
    )
    sys.exit(2)
