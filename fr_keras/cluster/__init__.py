"""Modules on other machines, through TensorFlow's distributed runtime."""

from fr_keras.cluster.connection import connect, present
from fr_keras.cluster.release import release
from fr_keras.cluster.status import WorkerError
from fr_keras.cluster.watch import Watch
from fr_keras.cluster.worker import start_worker
from fr_keras.engine.placement import host

__all__ = [
    "Watch", "WorkerError", "connect", "host", "present", "release",
    "start_worker",
]
