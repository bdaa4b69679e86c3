"""Updates of the modules at the end of an iteration."""

from fr_keras.engine.device_function import DeviceFunction
from fr_keras.replicas.exchange import Exchange


class Updates:
    """Updates what learns in pipelines, each by its own optimizer.

    Args:
        pipelines: list of `fr_keras.algorithms.pipeline.BasePipeline`s.
    """

    def __init__(self, pipelines):
        self._pipeline = pipeline = pipelines[0]
        self._updates = [
            self._update_of(copies, k % pipeline.num_modules)
            for k, copies in enumerate(
                zip(*(pipeline.learners for pipeline in pipelines))
            )
        ]

    def _update_of(self, copies, k):
        """Returns the update of the copies of module k, or of its addition."""
        pipeline = self._pipeline
        eagerly = pipeline.model.run_eagerly
        uses_xla = pipeline.uses_xla[k]
        if len(copies) == 1:
            return Alone(copies[0], k, eagerly, uses_xla)
        return Exchange(copies, k, pipeline.num_modules, eagerly, uses_xla)

    def learning_rates(self, learning_rate):
        """Returns the learning rates of all learners.

        Args:
            learning_rate: γ_t, of `ModuleOptimizers.next_learning_rate`.

        Returns:
            List with a list of scalar tensors for each.
        """
        return [
            self._pipeline.rates_of(k, learning_rate)
            for k in range(len(self._updates))
        ]

    def due(self, first_iteration, i):
        """Returns which learners an iteration updates.

        Args:
            first_iteration: as for `BasePipeline.has_gradient`.
            i: as for `BasePipeline.has_gradient`.

        Returns:
            List with a bool or scalar bool tensor for each.
        """
        return [
            self._pipeline.has_gradient(k, first_iteration, i)
            for k in range(len(self._updates))
        ]

    def __call__(self, gradients, learning_rates, due):
        """Updates each learner, and its copies, on their devices.

        Args:
            gradients: for each pipeline a list with a list of tensors for each
                learner, or `None` for one that is not to be updated.
            learning_rates: as returned by the method of this name.
            due: as returned by the method of this name.
        """
        for update, of_copies, rates, is_due in zip(
            self._updates, zip(*gradients), learning_rates, due
        ):
            if of_copies[0] is not None:
                update(of_copies, rates, is_due)


class Alone:
    """Updates what has no copies; like `Exchange` otherwise."""

    def __init__(self, learner, number, run_eagerly, jit_compile):
        self._update = DeviceFunction(
            learner.update, learner.device, jit_compile, run_eagerly, number
        )

    def __call__(self, gradients, learning_rate, is_due):
        self._update(gradients[0], learning_rate, is_due)
