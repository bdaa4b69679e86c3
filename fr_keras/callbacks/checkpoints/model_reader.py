"""Reads the state of a model between two calls of the training function."""

from fr_keras.callbacks.checkpoints import checkpointable, training_state
from fr_keras.callbacks.checkpoints.snapshot import Reader


class ModelReader:
    """Reads the state of a model in training.

    Args:
        model: algorithm, not necessarily built.
    """

    def __init__(self, model):
        self._model = model
        self._weights = None
        self._reader, self._metrics_reader = Reader(), Reader()
        self._counted = None

    def prepare(self):
        """Traces all functions that read, when the model is built.

        To be called while all workers respond; only the first call does it.
        """
        if self._weights is None:
            self._weights = checkpointable.Weights(self._model)
            self._reader.prepare(training_state.variables(self._model))
            self._metrics_reader.prepare(self._metrics())

    def begin_test(self):
        """Reads the metrics, which are about to count validation data."""
        self._counted = self._metrics_reader.read(self._metrics())

    def end_test(self):
        """To be called when validation ends."""
        self._counted = None

    def are_weights_finite(self):
        """Whether all are finite; warns once of the first that is not."""
        self.prepare()
        return self._weights.are_finite()

    def read(self):
        """Returns all values, with the metrics of the training data.

        Returns:
            Dict, as returned by `Reader.read`.

        Raises:
            tf.errors.OpError: if a worker is lost, so they cannot be read.
        """
        values = self._reader.read(training_state.variables(self._model))
        if self._counted is not None:  # Metrics count validation data.
            values.update(self._counted)
        return values

    def _metrics(self):
        variables = training_state.variables(self._model)
        return {"metrics": variables["metrics"]}
