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
        str, "must ... Received: ...", or `None`.
    """
    mine = job_name()
    if job.removesuffix(_DETERMINISTIC) != mine.removesuffix(_DETERMINISTIC):
        pattern = "__".join(rf"{name}_(.+)" for name in _LIBRARIES)
        theirs = re.fullmatch(pattern, job.removesuffix(_DETERMINISTIC))
        if theirs is None:
            return (
                "must have been started by `fr_keras.cluster.start_worker` or "
                "`python -m trainers.worker`. Received: a server of the job "
                f"'{job}'"
            )
        return (
            "must have the versions of this program, "
            f"{_listed(versions())}; install them there. Received: "
        ) + _listed({
            name: version.replace("_", ".")
            for name, version in zip(_LIBRARIES, theirs.groups())
        })
    if mine.endswith(_DETERMINISTIC) and job != mine:
        return (
            "must be deterministic, as this program is; start it with "
            "--deterministic, or after "
            "tf.config.experimental.enable_op_determinism(). Received: a "
            "worker that is not deterministic"
        )
    return None


def _listed(found):
    return ", ".join(f"{name} {found[name]}" for name in _LIBRARIES)
