"""The description of itself that every checkpoint contains."""

from fr_keras.callbacks.checkpoints import configuration, training_state
from fr_keras.versions import VERSION, versions

# Version of the contents and layout of checkpoints, to be raised on changes.
FORMAT = 2

# The entries of a manifest and their types.
_ENTRIES = {
    "position": {
        "step": int, "epoch": int, "batch": int, "stopped": bool,
        "data": {
            "iterators": int, "drawn": int, "steps_seen": int,
            "num_batches": (int, type(None)),
        },
    },
    "versions": {"fr_keras": str, "keras": str, "tensorflow": str},
    "best": (float, type(None)),
    "batch_spec": str,
    "model": {"algorithm": str, "num_modules": int, "network": list},
    "configuration": {"network": list, "optimizer": list, "settings": dict},
    "callbacks": dict,
    "num_arrays": int,
    "logs": dict,
}


def of_training(model, configured, position, best, callbacks, num_arrays):
    """Describes a checkpoint of a training.

    Args:
        model: algorithm, when everything that training needs is built.
        configured: dict, as returned by `configuration.of_training`.
        position: dict, as returned by `TrainingPosition`.
        best: float, the best value of the monitored log, or `None`.
        callbacks: dict, as returned by `CallbackState.get`.
        num_arrays: int, the number of arrays that `callbacks` refers to.

    Returns:
        Dict for JSON. The sizes of the log files, "logs", are still missing.
    """
    return {
        "format": FORMAT,
        "versions": versions(),
        "position": position,
        "best": best,
        "batch_spec": model.training.batch_spec.to_string(),
        "model": training_state.describe(model),
        "configuration": configuration.complete(configured, model),
        "callbacks": callbacks,
        "num_arrays": num_arrays,
    }


def check_format(manifest):
    """Checks that a checkpoint has the format that is read here.

    Args:
        manifest: dict, as returned by `store.read_manifest`.

    Raises:
        ValueError: in one line, if not.
    """
    theirs = manifest.get("format")
    if theirs != FORMAT:
        raise ValueError(
            f"Its format must be {FORMAT}, the one that fr_keras {VERSION} "
            "reads; use the version of fr_keras that wrote it. "
            f"Received: format={theirs!r}, "
            f"versions={manifest.get('versions')!r:.100}"
        )
    _check_entries(manifest, _ENTRIES)
    if manifest["num_arrays"] < 0:
        raise ValueError(
            "Its number of arrays must be at least 0. "
            f"Received: num_arrays={manifest['num_arrays']}"
        )


def _check_entries(received, expected):
    for name, kind in expected.items():
        value = received.get(name)
        if isinstance(kind, dict):
            _check_entries(value if isinstance(value, dict) else {}, kind)
        elif name not in received or not isinstance(value, kind):
            raise ValueError(
                f"Its entry '{name}' is damaged. "
                f"Received: {value!r:.60}"
            )
