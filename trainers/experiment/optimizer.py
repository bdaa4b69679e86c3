"""SGD as in the authors' program."""

import keras


@keras.saving.register_keras_serializable("fr_keras")
class CoupledSGD(keras.optimizers.SGD):
    """SGD whose weight decay is part of the gradient.

    The paper's experiments add λw to the gradient, so that momentum
    accumulates it. `weight_decay` of Keras' optimizers shrinks the weights
    separately from the update, which at momentum 0.9 has a tenth of the effect.

    Args:
        learning_rate: float or schedule.
        coupled_weight_decay: float, λ.
        **kwargs: as for `keras.optimizers.SGD`.
    """

    def __init__(self, learning_rate=0.01, coupled_weight_decay=0.0, **kwargs):
        super().__init__(learning_rate, **kwargs)
        self.coupled_weight_decay = coupled_weight_decay

    def update_step(self, gradient, variable, learning_rate):
        if self.coupled_weight_decay:
            gradient = keras.ops.add(
                gradient, self.coupled_weight_decay * variable
            )
        super().update_step(gradient, variable, learning_rate)

    def get_config(self):
        return {
            **super().get_config(),
            "coupled_weight_decay": self.coupled_weight_decay,
        }
