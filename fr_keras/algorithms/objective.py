"""The loss and the metrics given to `compile`."""

import contextlib

import keras
import tensorflow as tf

from fr_keras.engine import chain, private


class Objective:
    """The loss that the modules minimize, and the reported loss and metrics.

    Operations run on the device in scope, that of the last module.

    Args:
        model: compiled `keras.Model`.

    Attributes:
        guard: `fr_keras.engine.guard.Guard` of the reported loss and metrics,
            or `None`; like the guards of modules, for one call of `fit`.
    """

    def __init__(self, model):
        self._model = model
        self.guard = None

    def losses(self, y, y_pred, sample_weight, layer_losses, training=True):
        """Computes the loss of `compile`.

        Args:
            y: nest of tensors, the labels.
            y_pred: nest of tensors, the output of the last module.
            sample_weight: nest of tensors or `None`.
            layer_losses: list of scalar tensors, the losses of layers.
            training: bool.

        Returns:
            List of scalar tensors: this loss, if there is one, and
            `layer_losses`.

        Raises:
            ValueError: if there is no loss at all.
        """
        with contextlib.ExitStack() as stack:
            model = self._model
            if training and (
                model.replicas > 1 or model.pipeline.divides_loss
            ):
                # The losses of single outputs are counted with those of the
                # other parts of the batch.
                stack.enter_context(keras.StatelessScope())
            loss = self._model.compute_loss(
                y=y, y_pred=y_pred, sample_weight=sample_weight,
                training=training,
            )
        return all_losses(loss, layer_losses)

    def count(self, losses, y, y_pred, sample_weight):
        """Adds a batch to the reported loss and to the metrics.

        Args:
            losses: list of scalar tensors, as returned by `losses`.
            y: as for `losses`.
            y_pred: as for `losses`.
            sample_weight: as for `losses`.
        """

        def count():
            self.count_losses(losses, y_pred)
            metrics = private.compiled_metrics(self._model)
            if metrics is not None:
                metrics.update_state(y, y_pred, sample_weight)

        if self.guard is None:
            count()
        else:
            self.guard(losses, count)

    def count_shards(self, losses, shares, y, y_pred, sample_weight):
        """Adds a batch whose shards were in several pipelines.

        Args:
            losses: list of lists of scalar tensors, as returned by `losses` for
                each shard.
            shares: list of the `fr_keras.batches.shards.Share`s.
            y: nest of tensors, the labels of the whole batch.
            y_pred: nest of tensors, the outputs for the whole batch.
            sample_weight: nest of tensors or `None`.
        """
        loss = self._model.compute_loss(
            y=y, y_pred=y_pred, sample_weight=sample_weight
        )
        layer_losses = [
            tf.add_n([
                share.weight(of_layer.dtype) * of_layer
                for share, of_layer in zip(shares, of_layers)
            ])
            for of_layers in list(zip(*losses))[loss is not None:]
        ]
        self.count(all_losses(loss, layer_losses), y, y_pred, sample_weight)

    def count_losses(self, losses, y_pred):
        """Adds a batch to the reported loss."""
        total = sum(tf.cast(loss, losses[0].dtype) for loss in losses[1:])
        total = losses[0] + total if len(losses) > 1 else losses[0]
        batch_size = tf.shape(tf.nest.flatten(y_pred)[0])[0]
        private.loss_tracker(self._model).update_state(
            total, sample_weight=batch_size
        )

    def results(self, results):
        """Replaces the results of metrics by NaN if no batch was counted.

        Args:
            results: dict from name to scalar tensor.

        Returns:
            dict of the same kind.
        """
        if self.guard is None:
            return results
        # The guard withheld all batches. 0 would look like a very good loss.
        is_empty = tf.equal(private.loss_tracker(self._model).count, 0)
        return {
            name: _nan_if(is_empty, result) for name, result in results.items()
        }

    def check(self, y, y_pred, sample_weight):
        """Checks with symbolic tensors that the loss can be computed."""
        with self.explain_errors(y, y_pred):
            private.compute_output_spec(
                self._model.compute_loss, None, y, y_pred, sample_weight
            )

    @contextlib.contextmanager
    def explain_errors(self, y, y_pred):
        """Raises a clear error if loss or metrics do not match their inputs."""
        try:
            yield
        except _MISMATCHES as error:
            raise ValueError(
                "The loss and the metrics must match the model's output and "
                f"the labels ({chain.one_line(error)}). Received: "
                f"loss={self._model.loss!r}, output of shape "
                f"{chain.shapes(y_pred)} and labels of shape {chain.shapes(y)}"
            ) from error


# Errors that Python and TensorFlow raise for unexpected shapes, dtypes and
# types. Others, such as running out of memory, have other causes.
_MISMATCHES = (
    AssertionError, AttributeError, LookupError, TypeError, ValueError,
    tf.errors.InvalidArgumentError, tf.errors.UnimplementedError,
)


def check_losses(model, y, y_pred):
    """Rejects losses that are not the mean over the examples of a mini-batch.

    With replicas, every pipeline computes the loss of its own examples, and in
    most exact pipelines every micro-batch has its own: the loss of the
    mini-batch must be their mean, weighted by their number.

    Args:
        model: compiled `keras.Model`.
        y: nest of `keras.KerasTensor`, the labels.
        y_pred: nest of `keras.KerasTensor`, the output.

    Raises:
        ValueError: if a loss is another function of them.
    """
    parts, way_out = "With `replicas`", "`replicas=1`"
    if model.replicas == 1:
        parts, way_out = model.pipeline.divides_loss
    for path, loss in private.single_losses(model):
        if loss.reduction not in ("sum_over_batch_size", "mean"):
            raise ValueError(
                f"{parts}, losses must be means over the examples: "
                "`reduction='sum_over_batch_size'`, the default. "
                f"Received: loss '{loss.name}' with "
                f"reduction={loss.reduction!r}"
            )
        if not _is_of_examples(loss, path, y, y_pred):
            raise ValueError(
                f"{parts}, a loss must have a value for each example, over "
                f"which Keras takes the mean; use {way_out} for others. "
                f"Received: loss '{loss.name}', which is one number for a "
                "whole mini-batch"
            )


def check_not_masked(output, parts, way_out):
    """Rejects masks, over which Keras would average in every micro-batch.

    Args:
        output: `Features`, of a micro-batch.
        parts: str, why there are micro-batches.
        way_out: str, what to use instead.

    Raises:
        ValueError: if an output has a mask.
    """
    if any(mask is not None for mask in output.masks):
        raise ValueError(
            f"{parts}, outputs must have no mask: Keras averages the loss over "
            "what is not masked, which is unknown for the batch when the first "
            f"micro-batch is differentiated. Use {way_out}. Received: a masked "
            "output"
        )


def _is_of_examples(loss, path, y, y_pred):
    """Whether a loss has a value for each example, as far as is known."""
    if type(loss).__call__ is not keras.losses.Loss.__call__:
        return False
    try:
        for key in path:
            y, y_pred = y[key], y_pred[key]
    except (LookupError, TypeError):
        return True  # Keras matches labels in other structures, too.
    return bool(private.compute_output_spec(loss.call, y, y_pred).shape)


def all_losses(loss, losses):
    """Returns all losses: that of `compile`, if any, and those of layers."""
    losses = losses if loss is None else [loss, *losses]
    if not losses:
        raise ValueError(
            "No loss to compute. Provide a `loss` argument in `compile()`, or "
            "call `add_loss` in the last module. Received: loss=None"
        )
    return losses


def check_sample_weight(y_pred, sample_weight):
    """Rejects weights that Keras cannot multiply by the masks of outputs.

    Args:
        y_pred: nest of tensors, some of them with masks.
        sample_weight: nest of tensors or `None`, like `y_pred`, or one tensor
            for all outputs.

    Raises:
        ValueError: if the rank of the weights does not fit that of the mask.
    """
    outputs = keras.tree.flatten(y_pred)
    weights = keras.tree.flatten(sample_weight)
    if len(weights) == 1:
        weights *= len(outputs)
    for output, weight in zip(outputs, weights):
        mask = private.mask_of(output)
        if mask is None or weight is None or not weight.shape.rank:
            continue
        shapes = [tuple(weight.shape), tuple(mask.shape)]
        longer, shorter = sorted(shapes, key=len, reverse=True)
        difference = len(longer) - len(shorter)
        if difference > 1 or difference == 1 and longer[-1] != 1:
            raise ValueError(
                "The sample weights of a masked output must have the shape of "
                "the mask, one weight per timestep. Received: sample_weight "
                f"of shape {shapes[0]} and a mask of shape {shapes[1]}"
            )


def _nan_if(condition, result):
    result = tf.convert_to_tensor(result)
    if not result.dtype.is_floating:
        return result
    return tf.where(condition, tf.constant(float("nan"), result.dtype), result)
