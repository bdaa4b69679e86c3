"""What modules do about the delay of their gradients."""

import keras


@keras.saving.register_keras_serializable("fr_keras")
class DelayPolicy:
    """Says how far each module looks ahead, by the delay of its gradient.

    The error gradient that module k uses was computed s = K − k iterations
    ago. With momentum this is what makes late gradients diverge: weights have
    moved on along the direction in which they were moving, and the answer to
    that comes too late. So each module computes with the weights of *then*,
    predicted from its last two updates Δ_t = w_t − w_{t−1} and Δ_{t−1}: with

        ŵ = w_t + a Δ_t + b (Δ_t − Δ_{t−1}).

    Updates are those of the true weights. Subclass it to choose otherwise:
    each method is asked once for every module.

    Example:

    ```python
    class Linear(fr_keras.DelayPolicy):
        def play(self, delay, momentum):
            return delay, 0.0  # As many steps like the last.

        def replay(self, delay, momentum):
            return 1.0, 0.0

    model = fr_keras.FeaturesReplay(net, 4, delay_policy=Linear())
    ```
    """

    def play(self, delay, momentum):
        """How far ahead a new mini-batch is played.

        Args:
            delay: int, s, how many updates of the module there will have been
                when the error gradient of the mini-batch is back.
            momentum: float, μ of the module's optimizer, 0 if it has none.

        Returns:
            Tuple `(a, b)` of floats.
        """
        coasting = momentum * sum(
            (1 - momentum**j) / (1 - momentum) for j in range(1, delay + 1)
        )
        return 0.5 * delay, 0.75 * coasting

    def replay(self, delay, momentum):
        """How far ahead gradients are computed: replays, and the last module.

        Args:
            delay: as for `play`.
            momentum: as for `play`.

        Returns:
            Tuple `(a, b)` of floats.
        """
        del delay, momentum
        return 3.0, 3.0

    def learning_rate(self, delay):
        """What the learning rate of a module is multiplied by.

        Args:
            delay: int, s, by how many iterations its gradient is late.

        Returns:
            float.
        """
        return (1 + delay) ** -0.5

    def get_config(self):
        return {}

    @classmethod
    def from_config(cls, config):
        return cls(**config)
