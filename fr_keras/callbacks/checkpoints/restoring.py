"""Finds the newest checkpoint that training can resume from."""

import logging

from fr_keras.batches.batch_spec import BatchSpec
from fr_keras.callbacks.checkpoints import configuration, store, training_state
from fr_keras.callbacks.checkpoints.callback_state import decoded
from fr_keras.callbacks.checkpoints.log_files import check_sizes
from fr_keras.callbacks.checkpoints.manifest import check_format
from fr_keras.versions import versions

_logger = logging.getLogger("fr_keras")


class CheckpointError(RuntimeError):
    """There are checkpoints, but none that training can resume from."""


def restore_newest(model, stores, configured):
    """Sets a model to the newest checkpoint that can be read.

    Args:
        model: algorithm.
        stores: list of `Store`s; the newest checkpoints are in the last.
        configured: dict, as returned by `configuration.of_training`.

    Returns:
        `Restored`, or `None` if there is no checkpoint at all.

    Raises:
        CheckpointError: if none can be read, or one does not fit.
    """
    try:
        prefixes = [
            prefix for one in reversed(stores)
            for prefix in reversed(one.prefixes())
        ]
    except OSError as error:
        raise CheckpointError(
            "The directory of checkpoints must be readable. "
            f"Received: {error}"
        ) from error
    for prefix in prefixes:
        try:
            return Restored(model, prefix, configured)
        except store.Damaged as error:
            damaged = f"{prefix} cannot be read: {error}"
            if prefix != prefixes[-1]:
                _logger.warning("%s; trying the one before it", damaged)
    if prefixes:
        raise CheckpointError(
            "At least one checkpoint must be readable; to start from scratch, "
            f"delete all of them. Received: {damaged}"
        )
    return None


class Restored:
    """A checkpoint from which training resumes.

    Args:
        model: algorithm, which is checked against it and set to it.
        prefix: str, the prefix of its files' paths.
        configured: dict, as returned by `configuration.of_training`.

    Attributes:
        prefix: str.
        manifest: dict, its description of itself.

    Raises:
        store.Damaged: if it cannot be read.
        CheckpointError: if it does not fit.
    """

    def __init__(self, model, prefix, configured):
        self.prefix = prefix
        self.manifest = manifest = store.read_manifest(prefix)
        try:
            check_format(manifest)
            check_sizes(manifest["logs"])
            arrays = store.read_arrays(prefix, manifest["num_arrays"])
            self._callbacks = decoded(manifest["callbacks"], arrays)
            training_state.check_model(model, manifest["model"])
            configuration.check(configured, manifest)
            model.training.prepare(BatchSpec.from_string(manifest["batch_spec"]))
            configuration.check(
                configuration.complete(configured, model), manifest
            )
            training_state.check_state(model, manifest["model"])
        except store.Damaged:
            raise
        except ValueError as error:
            raise CheckpointError(
                f"{prefix} cannot be restored. {error}"
            ) from error
        except Exception as error:  # The file may hold anything.
            raise CheckpointError(
                f"{prefix} cannot be restored. Its contents are damaged. "
                f"Received: {error!r:.200}"
            ) from error
        self.set_variables(model)
        if not training_state.has_same_replicas(model, manifest["model"]):
            _logger.warning(
                "%s was written with %d replicas; with %d, training resumes "
                "with empty queues", prefix,
                manifest["model"].get("replicas", 1), model.replicas,
            )
        if manifest["versions"] != versions():
            _logger.warning(
                "%s was written with %s; with %s, results may differ in the "
                "last digits", prefix,
                *map(_listed, (manifest["versions"], versions())),
            )

    def set_variables(self, model):
        """Restores the variables of the model."""
        variables = training_state.variables(model)
        if not training_state.has_same_replicas(model, self.manifest["model"]):
            del variables["method"]
        store.read_variables(self.prefix, variables)

    def set_callbacks(self, callback_state):
        """Restores the state of the other callbacks.

        Args:
            callback_state: `CallbackState` of them.

        Raises:
            CheckpointError: if it is the state of different callbacks.
        """
        try:
            callback_state.set(self._callbacks)
        except ValueError as error:
            raise CheckpointError(
                f"{self.prefix} cannot be restored. {error}"
            ) from error


def _listed(names_and_versions):
    return ", ".join(map(" ".join, names_and_versions.items()))
