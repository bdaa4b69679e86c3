"""The gradient of the loss on a whole dataset."""

import tensorflow as tf

from fr_keras.batches.batch_spec import standardize_batch
from fr_keras.callbacks.diagnostics.true_gradient import (
    TrueGradient,
    function_of,
    unscaled,
)


class FullGradient:
    """∇f(w^t) over a dataset: the mean over all mini-batches.

    Mini-batches are weighted by their size. Modules run in training mode, so
    batch normalization sees each mini-batch by itself; no state changes.

    Args:
        model: as for `TrueGradient`.
        dataset: iterable of mini-batches `(x, y)` or `(x, y, sample_weight)`.

    Raises:
        ValueError: if the dataset is empty.
    """

    def __init__(self, model, dataset):
        self._modules = model.pipeline.modules
        self._dataset = dataset
        self._gradient = TrueGradient(model)
        self._add = function_of(model, self._added)

    def __call__(self):
        """Computes loss and gradients in one pass over the dataset.

        Returns:
            Tuple `(loss, gradients)`: float, f(w^t); and for each module the
            list of tensors ∇_k f on its device, without loss scale, zero for
            variables that the loss does not depend on.
        """
        size, loss, totals = 0, 0.0, []
        for module in self._modules:
            with tf.device(module.device):
                totals.append([
                    tf.zeros_like(v.value) for v in module.trainable_variables
                ])
        for batch in self._dataset:
            of_batch, loss_of_batch, totals = self._add(
                standardize_batch(batch), totals
            )
            size += int(of_batch)
            loss += int(of_batch) * float(loss_of_batch)
        if not size:
            raise ValueError(
                "`dataset` must contain at least one mini-batch. Received: an "
                "empty dataset"
            )
        for module, of_module in zip(self._modules, totals):
            with tf.device(module.device):
                of_module[:] = [total / size for total in of_module]
        return loss / size, totals

    def _added(self, batch, totals):
        loss, gradients, _ = self._gradient(batch, [[] for _ in self._modules])
        size = tf.shape(tf.nest.flatten(batch[0])[0])[0]
        sums = []
        for module, of_module, so_far in zip(self._modules, gradients, totals):
            with tf.device(module.device):
                sums.append([
                    total if gradient is None
                    else total + tf.cast(size, total.dtype) * gradient
                    for gradient, total in zip(
                        unscaled(module, of_module or [None] * len(so_far)),
                        so_far,
                    )
                ])
        return size, loss, sums
