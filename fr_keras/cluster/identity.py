"""The identity of a worker, encoded in the name of its job.

TensorFlow's workers report the names of their devices, which contain the job
name. It encodes the software of the worker, because nothing else can be queried
before graphs are sent to it.
"""

import re

from fr_keras.engine import private
from fr_keras.versions import versions

# A worker runs graphs, so the version of Keras does not matter there.
_LIBRARIES = ("fr_keras", "tensorflow")
_DETERMINISTIC = "_deterministic"


def job_name():
    """The name of the job of a worker in this process, str."""
    found = versions()
    words = "__".join(f"{name}_{found[name]}" for name in _LIBRARIES)
    deterministic = ""
    if private.is_op_determinism_enabled():
        deterministic = _DETERMINISTIC
    return re.sub(r"\W", "_", words + deterministic)


def difference(job):
    """Describes why a worker may compute something else than this process.

    Args:
        job: str, the name of the worker's job.

    Returns:
        str, "it must ... Received: ...", or `None`.
    """
    mine = job_name()
    if job.removesuffix(_DETERMINISTIC) != mine.removesuffix(_DETERMINISTIC):
        versions_told = "__".join(rf"{name}_(.+)" for name in _LIBRARIES)
        told = re.fullmatch(versions_told, job.removesuffix(_DETERMINISTIC))
        if told is None:
            return (
                "it must have been started by `fr_keras.cluster.start_worker` "
                "or `python -m trainers.worker`. Received: a server of the job "
                f"'{job}'"
            )
        return f"it must run {_listed(versions())}. Received: " + _listed({
            name: version.replace("_", ".")
            for name, version in zip(_LIBRARIES, told.groups())
        })
    if mine.endswith(_DETERMINISTIC) and job != mine:
        return "it must be deterministic. Received: one that is not"
    return None


def _listed(found):
    return ", ".join(f"{name} {found[name]}" for name in _LIBRARIES)
