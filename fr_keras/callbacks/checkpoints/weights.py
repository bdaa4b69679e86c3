"""Restores the weights of a checkpoint for another training."""

import logging
import os

import keras

from fr_keras.callbacks.checkpoints import configuration, store, training_state
from fr_keras.callbacks.checkpoints.manifest import check_format

_logger = logging.getLogger("fr_keras")


def restore_weights(
    model: keras.Model, directory: str | os.PathLike[str],
) -> str:
    """Sets the weights of a model to those of the newest checkpoint.

    The checkpoint may belong to another algorithm or number of modules, as long
    as the network computes the same; settings that only matter in training,
    such as a dropout rate or a regularizer, may differ. Only the network's
    variables are restored, including averages and random state: optimizers,
    replay queues and the iteration count do not change.

    Args:
        model: algorithm, such as `fr_keras.FeaturesReplay`.
        directory: str or path, the directory of `fr_keras.Checkpoints`, or its
            subdirectory `best`.

    Returns:
        str, the checkpoint.

    Raises:
        ValueError: if there is no checkpoint, none that can be read, or it
            belongs to another network.

    Example:

    ```python
    model = fr_keras.FeaturesReplay(network, num_modules=8)
    fr_keras.restore_weights(model, "checkpoints/best")
    ```
    """
    if not model.built:
        raise ValueError(
            "The model must be built before weights are restored; call it on "
            f"a batch first. Received: model={model!r}"
        )
    reasons = []
    for prefix in reversed(store.Store(directory, keep=2).prefixes()):
        try:
            manifest = store.read_manifest(prefix)
            try:
                check_format(manifest)
                training_state.check_network(model, manifest["model"])
                configuration.check_network(model, manifest)
            except ValueError as error:
                raise ValueError(
                    f"{prefix} cannot be restored. {error}"
                ) from error
            network = training_state.tf_variables(
                training_state.network_variables(model)
            )
            store.read_variables(prefix, {"network": network})
            return prefix
        except store.Damaged as error:
            reasons.append(f"{prefix} cannot be read: {error}")
            _logger.warning("%s; trying the one before it", reasons[-1])
    raise ValueError(
        "`directory` must contain a readable checkpoint. Received: "
        f"directory={os.fspath(directory)!r}"
        + (f" ({reasons[0]})" if reasons else ", without checkpoints")
    )
