"""Cross-entropy with smoothed labels."""

import keras


@keras.saving.register_keras_serializable("fr_keras")
class SmoothedCrossentropy(keras.losses.Loss):
    """Cross-entropy of integer labels and logits, with label smoothing.

    Args:
        label_smoothing: float, the share of the target probability that is
            spread over all classes.
        **kwargs: arguments of `keras.losses.Loss`.

    Reference: section 7 of [Rethinking the Inception Architecture](
    https://arxiv.org/abs/1512.00567).
    """

    def __init__(
        self, label_smoothing, name="smoothed_crossentropy", **kwargs
    ):
        super().__init__(name=name, **kwargs)
        self.label_smoothing = label_smoothing

    def call(self, y_true, y_pred):
        labels = keras.ops.one_hot(
            keras.ops.cast(y_true, "int32"), y_pred.shape[-1],
            dtype=y_pred.dtype,
        )
        return keras.losses.categorical_crossentropy(
            labels, y_pred, from_logits=True,
            label_smoothing=self.label_smoothing,
        )

    def get_config(self):
        return {
            **super().get_config(), "label_smoothing": self.label_smoothing
        }
