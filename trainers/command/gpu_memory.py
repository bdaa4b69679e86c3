"""Memory of GPUs, set before TensorFlow starts."""

import os


def let_grow():
    """Takes GPU memory as it is needed, not all of it at once.

    Several runs, or a run and a desktop, can then share a GPU. (TensorFlow's
    setting for a device applies neither to logical devices nor to the server of
    a worker.) A variable that is already set is left alone.
    """
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
