"""Back-propagation over modules on devices: the locked baseline."""

import tensorflow as tf

from fr_keras.algorithms.base import Algorithm


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
        self._step = self.traced(self._iteration)

    def train_steps(self, batches, age):
        del age
        for batch in batches:
            self._step(*batch, self.optimizer.next_learning_rate())

    def _iteration(self, x, y, sample_weight, learning_rate):
        features, tapes, losses = [x], [], []
        for module in self.modules_at_work[:-1]:
            with tf.GradientTape() as tape:
                if not module.is_first:
                    tape.watch(features[-1])
                above, own_losses, state = module.forward(features[-1])
            module.commit(state)
            features.append(above)
            losses.append(own_losses)
            tapes.append(tape)

        gradients = [None] * self.num_modules
        gradients[-1], delta = self.learn(
            features[-1], y, sample_weight, sum(losses, [])
        )
        for k in reversed(range(self.num_modules - 1)):
            gradients[k], delta = self.modules_at_work[k].backward(
                tapes[k],
                [features[k + 1], losses[k]],
                [delta, [tf.ones_like(loss) for loss in losses[k]]],
                features[k],
            )
        self.update(gradients, learning_rate)
