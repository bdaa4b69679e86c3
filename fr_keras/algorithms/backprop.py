"""Back-propagation over modules on devices: the locked baseline."""

import functools

import keras

from fr_keras.algorithms.base import Algorithm
from fr_keras.algorithms.pipeline import BasePipeline
from fr_keras.engine.boundaries import route_backward, route_forward
from fr_keras.engine.device_function import DeviceFunction
from fr_keras.engine.forward_backward import record


class BackpropPipeline(BasePipeline):
    """One pipeline trained by back-propagation."""

    replicates = True

    def make_functions(self):
        self._step = DeviceFunction(
            self._iteration, run_eagerly=self.model.run_eagerly
        )
        self._update = self.on_devices(module.update for module in self.modules)

    def train_steps(self, batches, rates, first_iteration):
        del first_iteration
        for batch, (learning_rate, _) in zip(batches, rates):
            # (`learn` left its shard in the graph of the step.)
            gradients, self.learn.shard = self._step(batch, learning_rate)
            yield gradients, None

    def _iteration(self, batch, learning_rate):
        """Runs an iteration, including the updates if there are no replicas.

        Outside this function, all updates would wait for its end. Inside, that
        of module K can run during the backward passes of the modules below.
        """
        modules = self.modules
        features = modules[0].standardize(batch.x)
        losses, backward_passes = [], []
        for module in modules[:-1]:
            features, layer_losses, state_updates, backward = route_forward(
                module, functools.partial(record, module, share=batch.share),
                features,
            )
            module.commit(state_updates)
            losses.extend(layer_losses)
            backward_passes.append(backward)

        gradients = [None] * self.num_modules
        gradients[-1], delta, _ = self.learn(
            features, batch, losses
        )
        for k in reversed(range(self.num_modules - 1)):
            module = modules[k]
            if not module.learns:
                break
            gradients[k], delta = route_backward(
                module, backward_passes[k], delta
            )
        if len(self.model.pipelines) > 1:
            return gradients, self.learn.shard
        for update, module_gradients in zip(self._update, gradients):
            if module_gradients is not None:
                update(module_gradients, learning_rate)
        return [None] * self.num_modules, None


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
