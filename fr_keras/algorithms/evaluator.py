"""Modules on devices as one network: loss, evaluation, prediction."""

import contextlib

import keras
import tensorflow as tf

from fr_keras.batches import labels
from fr_keras.batches.reading import Reading, reads
from fr_keras.engine import chain, placement, private
from fr_keras.engine.user_warnings import warn
from fr_keras.engine.wired_submodel import call_quietly


class ModuleEvaluator(keras.Model):
    """Implements `evaluate` and `predict` for modules on devices.

    Attributes:
        modules_at_work: list of K `fr_keras.engine.module.Module`.
        devices: tuple of K full device names.
    """

    evaluate = reads(keras.Model.evaluate)
    predict = reads(keras.Model.predict)
    _has_announced = False

    @property
    def distribute_strategy(self):
        """Strategy by which Keras reads datasets; modules ignore it."""
        return Reading()

    def build(self, input_shape=None):
        """Does nothing: the modules are built with the first batch."""
        del input_shape
        self.built = True

    def call(self, inputs, training=None):
        outputs = inputs
        for module in self.modules_at_work:
            with tf.device(module.device):
                outputs = call_quietly(
                    module.submodel, outputs, training=training
                )
        if training and (self.delays is None or any(self.delays)):
            # `fit` does not come here: training the modules through this call
            # is not the training method of this model.
            outputs = keras.tree.map_structure(self._announcing, outputs)
        return outputs

    def _announcing(self, tensor):
        """Returns the same tensor, which warns when it is differentiated."""
        if not isinstance(tensor, tf.Tensor) or not tensor.dtype.is_floating:
            return tensor

        @tf.custom_gradient
        def identity(x):
            return tf.identity(x), self._announce_gradient

        announcing = identity(tensor)
        mask = private.mask_of(tensor)
        if mask is not None:
            private.set_mask(announcing, mask)
        return announcing

    def _announce_gradient(self, gradient):
        if not self._has_announced:
            self._has_announced = True
            warn(
                f"Model '{self.name}' is trained from outside, as a part of "
                "another model or under a tf.GradientTape: by ordinary "
                f"back-propagation, not by {type(self).__name__}, which only "
                "its own `fit` and `train_on_batch` use. For "
                "back-propagation take the plain Keras model, `to_keras()`."
            )
        return gradient

    def _check_no_strategy(self):
        """Raises an error in the scope of a `tf.distribute` strategy."""
        if tf.distribute.has_strategy():
            raise ValueError(
                "Modules go to devices by `devices`, not by a strategy of "
                "tf.distribute: use the model outside of its scope. "
                f"Received: strategy={tf.distribute.get_strategy()!r}"
            )

    def _check_places(self):
        """Checks that no other model has moved the modules elsewhere."""
        self._check_no_strategy()
        for k, module in enumerate(self.modules_at_work, start=1):
            stay = placement.immovable(module.submodel)
            for variable in module.submodel.variables:
                if variable.value.device != module.device and (
                    id(variable) not in stay
                ):
                    raise ValueError(
                        f"Module {k} must be on {module.device}, but another "
                        "model that is made of it has moved it; `compile` "
                        f"takes it back. Received: '{variable.path}' on "
                        f"{variable.value.device}"
                    )

    def make_predict_function(self, force=False):
        self._check_places()
        super().make_predict_function(force)

    def make_test_function(self, force=False):
        self._check_places()
        if self.test_function is None or force:
            super().make_test_function(force=True)
            self.test_function = labels.told_plainly(self.test_function)

    def compute_loss(
        self, x=None, y=None, y_pred=None, sample_weight=None, training=True
    ):
        """Computes the loss that was passed to `compile`.

        Unlike in other Keras models, it does not include the losses of the
        layers (regularizers, `add_loss`): each belongs to its module.

        Args:
            x: not used.
            y: nest of tensors, the labels.
            y_pred: nest of tensors, the output of the last module.
            sample_weight: nest of tensors or `None`.
            training: not used.

        Returns:
            Scalar tensor, or `None` if no loss was given.
        """
        del x, training
        if private.compiled_loss(self) is None:
            return None
        _check_sample_weight(y_pred, sample_weight)
        return private.compiled_loss(self)(y, y_pred, sample_weight)

    def test_step(self, data):
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        y_pred = self(x, training=False)
        with tf.device(self.devices[-1]):
            labels.check(self.loss, y, y_pred)
            with self._fits(y, y_pred):
                loss = self.compute_loss(
                    y=y, y_pred=y_pred, sample_weight=sample_weight,
                    training=False,
                )
                losses = given(loss, self.losses)
                self._count_losses(losses, y_pred)
                return self.compute_metrics(x, y, y_pred, sample_weight)

    def _count_losses(self, losses, y_pred):
        """Adds a batch to the reported loss."""
        total = sum(tf.cast(loss, losses[0].dtype) for loss in losses[1:])
        total = losses[0] + total if len(losses) > 1 else losses[0]
        batch_size = tf.shape(tf.nest.flatten(y_pred)[0])[0]
        private.loss_tracker(self).update_state(total, sample_weight=batch_size)

    @contextlib.contextmanager
    def _fits(self, y, y_pred):
        """Raises a clear error if loss or metrics do not fit their inputs."""
        try:
            yield
        except _MISFITS as error:
            raise ValueError(
                "The loss and the metrics must fit the model's output and the "
                f"labels ({chain.plain(error)}). Received: loss={self.loss!r}, "
                f"output {chain.shapes(y_pred)} and labels {chain.shapes(y)}"
            ) from error


# Errors that Python and TensorFlow raise for values of an unexpected kind; all
# others, such as running out of memory, have other causes.
_MISFITS = (
    AssertionError, AttributeError, LookupError, TypeError, ValueError,
    tf.errors.InvalidArgumentError, tf.errors.UnimplementedError,
)


def _check_sample_weight(y_pred, sample_weight):
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
                "Sample weights of an output with a mask must have the shape "
                "of the mask: give a weight to each of its steps. Received: "
                f"sample_weight of shape {shapes[0]} and a mask of shape "
                f"{shapes[1]}"
            )


def given(loss, losses):
    """Returns all losses: that of `compile`, if any, and those of layers."""
    losses = losses if loss is None else [loss, *losses]
    if not losses:
        raise ValueError(
            "No loss to compute. Provide a `loss` argument in `compile()`, or "
            "call `add_loss` in the last module."
        )
    return losses
