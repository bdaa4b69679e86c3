"""The causes of failures in graphs over several devices."""

import keras
import tensorflow as tf

from fr_keras.batches import labels
from fr_keras.engine import placement


def find_cause(model, batches):
    """Finds the error that caused a function to be cancelled.

    When a function fails on one device, functions that wait for it on others
    are cancelled, and TensorFlow may report nothing else. So the work is
    repeated, one module after the other, without changing state.

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
                made, of_layers, _ = module.forward(module.used(features))
                features = module.output(features, made)
            y_pred = modules[-1].packed(features)
            with tf.device(modules[-1].device):
                labels.check(model.loss, y, y_pred)
                with objective.fits(y, y_pred), keras.StatelessScope():
                    losses = objective.losses(
                        y, y_pred, sample_weight, of_layers
                    )
                    objective.count_losses(losses, y_pred)
                    model.compute_metrics(None, y, y_pred, sample_weight)
    except Exception as error:
        return error
    return None
