"""Back-propagation over modules on devices: the locked baseline."""

import keras
import tensorflow as tf

from fr_keras.algorithms.base import Algorithm
from fr_keras.device_function import DeviceFunction


@keras.saving.register_keras_serializable("fr_keras")
class Backprop(Algorithm):
    """Trains K modules on K devices by back-propagation.

    Every module runs its forward and its backward pass on its own device, one
    module after the other, so one device is busy at a time (*backward
    locking*). The numbers are those of the uncut network on one device.

    The arguments, attributes and errors are those of `Algorithm`
    (`fr_keras/algorithms/base.py`).

    Example:

    ```python
    model = fr_keras.Backprop(
        fr_keras.models.resnet(20, num_classes=10), num_modules=2
    )
    model.compile("sgd", "sparse_categorical_crossentropy")
    model.fit(x_train, y_train)
    ```
    """

    def make_functions(self):
        self._step = DeviceFunction(
            self._iteration, run_eagerly=self.run_eagerly
        )

    def train_steps(self, batches, age):
        del age
        for batch in batches:
            self._step(*batch, self.optimizer.next_learning_rate())

    def _iteration(self, x, y, sample_weight, learning_rate):
        modules = self.modules_at_work
        features, tapes, used, made, losses = [], [], [], [], []
        features.append(modules[0].standardize(x))
        for k, module in enumerate(modules[:-1]):
            used.append(module.used(features[k]))
            with tf.GradientTape() as tape:
                module.watch(tape, used[k])
                of_module, own_losses, moved = module.forward(used[k])
            module.commit(moved)
            tapes.append(tape)
            made.append(of_module)
            losses.append(own_losses)
            features.append(module.output(features[k], of_module))

        gradients = [None] * self.num_modules
        gradients[-1], delta = self.learn(
            features[-1], y, sample_weight, sum(losses, [])
        )
        for k in reversed(range(self.num_modules - 1)):
            module = modules[k]
            if not module.learns:
                break
            delta = module.rescaled(delta)
            gradients[k], own = module.backward(
                tapes[k], used[k], losses[k], made[k], module.received(delta)
            )
            delta = module.sent(own, delta)
        self.update(gradients, learning_rate)
