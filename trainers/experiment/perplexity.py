"""The perplexity of a language model."""

import keras


@keras.saving.register_keras_serializable("fr_keras")
class Perplexity(keras.metrics.SparseCategoricalCrossentropy):
    """The exponential of the mean cross-entropy of a token, from logits.

    Args:
        name: str.
        dtype: the data type of the result.
    """

    def __init__(self, name="perplexity", dtype=None):
        super().__init__(name, dtype, from_logits=True)

    def result(self):
        return keras.ops.exp(super().result())

    def get_config(self):
        return {"name": self.name, "dtype": self.dtype}
