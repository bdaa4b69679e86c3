"""The causes of failures in graphs over several devices."""

import keras
import tensorflow as tf

from fr_keras.batches import labels
from fr_keras.engine import placement


def find_cause(model, batches):
    """Finds the error that caused a function to be cancelled.

    When a function fails on one device, functions on other devices that wait
    for it are cancelled, and TensorFlow may report only the cancellation. So
    this repeats the work, one module after the other, without changing state.

    Args:
        model: `fr_keras.algorithms.base.Algorithm`.
        batches: list of tuples `(x, y, sample_weight)`.

    Returns:
        `Exception`, or `None` if none is found.
    """
    # A lost worker would not respond to this either.
    if not all(map(placement.is_here, model.devices)):
        return None
    modules, objective = model.pipeline.modules, model.objective
    try:
        for x, y, sample_weight in batches:
            features = modules[0].standardize(x)
            for module in modules:
                outputs, layer_losses, _ = module.forward(module.used(features))
                features = module.output(features, outputs)
            y_pred = modules[-1].packed(features)
            with tf.device(modules[-1].device):
                labels.check(model.loss, y, y_pred)
                with (
                    objective.explain_errors(y, y_pred),
                    keras.StatelessScope(),
                ):
                    losses = objective.losses(
                        y, y_pred, sample_weight, layer_losses
                    )
                    objective.count_losses(losses, y_pred)
                    model.compute_metrics(None, y, y_pred, sample_weight)
    except Exception as error:
        return error
    return None
