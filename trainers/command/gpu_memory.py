"""Memory of GPUs, set before TensorFlow starts."""

import os

import tensorflow as tf


def let_grow():
    """Takes GPU memory as it is needed, not all of it at once.

    Several runs, or a run and a desktop, can then share a GPU. (TensorFlow
    itself lets the environment variable decide.)
    """
    if "TF_FORCE_GPU_ALLOW_GROWTH" in os.environ:
        return
    for gpu in tf.config.list_physical_devices("GPU"):
        tf.config.experimental.set_memory_growth(gpu, True)
