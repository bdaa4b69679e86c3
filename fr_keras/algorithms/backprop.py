"""Back-propagation over modules on devices: the locked baseline."""

import keras

from fr_keras.algorithms.base import Algorithm
from fr_keras.algorithms.pipeline import BasePipeline
from fr_keras.engine.forward_backward import ForwardBackward


class BackpropPipeline(BasePipeline):
    """One pipeline trained by back-propagation."""

    replicates = True

    def make_functions(self):
        # Each pass is a function on its own device. One function of all devices
        # would get and return everything, the gradients included, by way of the
        # program that started it.
        passes = [
            ForwardBackward(module, self.model.run_eagerly)
            for module in self.modules[:-1]
        ]
        self._forward = self.forward_functions(
            of_module.forward for of_module in passes
        )
        self._backward = self.backward_functions(
            of_module.backward for of_module in passes
        )

    def train_steps(self, batches, rates, first_iteration):
        del rates, first_iteration
        for batch in batches:
            yield self._gradients(batch), None

    def _gradients(self, batch):
        """Returns g_k of each module, or `None` where nothing learns."""
        features = self.modules[0].standardize(batch.x)
        kept, losses = [], []
        for forward in self._forward:
            features, residuals, layer_losses, _ = forward(
                features, batch.share
            )
            kept.append(residuals)
            losses.extend(layer_losses)
        gradients = [None] * self.num_modules
        gradients[-1], delta, _ = self.learn(features, batch, losses)
        for k in reversed(range(self.num_modules - 1)):
            if not self.modules[k].learns:
                break
            gradients[k], delta = self._backward[k](kept[k], delta)
        return gradients


@keras.saving.register_keras_serializable("fr_keras")
class Backprop(Algorithm):
    """Trains K modules on K devices by back-propagation.

    Every module runs its forward and backward passes on its own device, one
    module after the other, so only one device is busy at a time (*backward
    locking*). The results are those of the unsplit network on one device.

    Attributes and errors are those of `fr_keras.algorithms.base.Algorithm`.

    Args:
        model: Sequential or Functional `keras.Model` to split (a copy of it is
            trained, and `model` is not changed), or a list of K modules.
        num_modules: int, K, or `None` for one module per device.
        devices: list of K device names. `None` uses the GPUs or, without a
            GPU, the logical CPU devices.
        costs: dict from layer name to cost, by which the modules are balanced,
            `"measured"`, or `None` for estimates (see `fr_keras.partition`).
        copy: bool. `False` trains the layers of `model` themselves.
        replicas: int, r, the number of pipelines, each of which trains on its
            share of every batch. With K = 1 this is data parallelism.
        link_dtype: `"bfloat16"` sends floating-point features and error
            gradients in this dtype from module to module.
        split_points: K - 1 increasing ints, where to split, or `None` for
            modules that take equally long.
        **kwargs: arguments of `keras.Model`.

    Example:

    ```python
    model = fr_keras.Backprop(
        fr_keras.models.resnet(20, num_classes=10), num_modules=2
    )
    model.compile("sgd", "sparse_categorical_crossentropy")
    model.fit(x_train, y_train)
    ```
    """

    pipeline_class = BackpropPipeline
    schedule = "backprop"
