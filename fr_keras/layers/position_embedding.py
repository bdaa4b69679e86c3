"""Learned position embeddings for the tokens of a sequence."""

import keras


@keras.saving.register_keras_serializable("fr_keras")
class PositionEmbedding(keras.layers.Layer):
    """Adds a learned vector at each position of a sequence.

    Takes and returns tensors of shape `(batch, length, width)`; length and
    width are those of the first input.

    Example:

    ```python
    x = keras.layers.Embedding(32_000, 512)(tokens)
    x = fr_keras.layers.PositionEmbedding()(x)
    ```
    """

    def build(self, input_shape):
        length, width = input_shape[1:]
        if length is None:
            raise ValueError(
                "Learned positions need sequences of a fixed length; set it "
                f"in keras.Input. Received: {input_shape=}"
            )
        self.embeddings = self.add_weight(
            shape=(length, width),
            initializer=keras.initializers.RandomNormal(stddev=0.02),
            name="embeddings",
        )

    def call(self, inputs):
        return inputs + keras.ops.cast(self.embeddings, inputs.dtype)

    def compute_output_shape(self, input_shape):
        return input_shape
