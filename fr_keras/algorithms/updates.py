"""Updates of the modules at the end of an iteration."""


class Updates:
    """Updates the modules of pipelines, each by its own optimizer.

    Args:
        pipelines: list of `fr_keras.algorithms.pipeline.Pipeline`s.
    """

    def __init__(self, pipelines):
        (self._pipeline,) = pipelines
        self._update = self._pipeline.on_devices(
            module.update for module in self._pipeline.modules
        )

    def learning_rates(self, learning_rate):
        """Returns the learning rates of all modules.

        Args:
            learning_rate: γ_t, of `ModuleOptimizers.next_learning_rate`.

        Returns:
            List of K lists of scalar tensors.
        """
        return [
            self._pipeline.rates_of(k, learning_rate)
            for k in range(self._pipeline.num_modules)
        ]

    def due(self, first_iteration, i):
        """Returns which modules an iteration updates.

        Args:
            first_iteration: as for `Pipeline.has_gradient`.
            i: as for `Pipeline.has_gradient`.

        Returns:
            List of K bools or scalar bool tensors.
        """
        return [
            self._pipeline.has_gradient(k, first_iteration, i)
            for k in range(self._pipeline.num_modules)
        ]

    def __call__(self, gradients, learning_rates, due):
        """Updates each module on its device.

        Args:
            gradients: for each pipeline a list of K lists of tensors, g_k;
                `None` for a module that is not to be updated.
            learning_rates: as returned by the method of this name.
            due: as returned by the method of this name.
        """
        (pipeline_gradients,) = gradients
        for update, module_gradients, rates, is_due in zip(
            self._update, pipeline_gradients, learning_rates, due
        ):
            if module_gradients is not None:
                update(module_gradients, rates, is_due)
