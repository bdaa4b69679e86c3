"""The updates of modules, at the end of an iteration."""


class Updates:
    """Updates the modules of pipelines, each by its own optimizer.

    Args:
        pipelines: list of `fr_keras.algorithms.pipeline.Pipeline`s.
    """

    def __init__(self, pipelines):
        (pipeline,) = pipelines
        self._update = pipeline.on_devices(
            module.update for module in pipeline.modules
        )

    def __call__(self, gradients, learning_rates, due):
        """Updates each module on its device.

        Args:
            gradients: for each pipeline a list of K lists of tensors, g_k;
                `None` for a module that is not to be updated.
            learning_rates: for each module its rates, as returned by
                `Pipeline.rates_of`.
            due: for each module whether to update it, a bool or scalar bool
                tensor.
        """
        (of_pipeline,) = gradients
        for update, *of_module in zip(
            self._update, of_pipeline, learning_rates, due
        ):
            if of_module[0] is not None:
                update(*of_module)
