"""One module at work: a submodel on its device, with its own optimizer."""

import keras
import tensorflow as tf


class Module:
    """A submodel, the device it lives on and the optimizer that updates it.

    The methods are the pieces that every algorithm is put together from. They
    place all their operations on the module's device, whichever device is in
    scope where they are called.

    Args:
        submodel: `keras.Model` whose variables are on `device`.
        device: full device name.
        is_first: bool, whether the input is data, so that nobody wants its
            error gradient.

    Attributes:
        optimizer: the module's own `keras.optimizers.Optimizer`, set by
            `fr_keras.optimizers.ModuleOptimizers`.
        observers: list of callables `observe(module, gradients)`, called while
            the update is traced, with the gradients (list of tensors or
            `None`, one for each trainable variable) as the update will use
            them.
    """

    def __init__(self, submodel, device, is_first):
        self.submodel = submodel
        self.device = device
        self.is_first = is_first
        self.optimizer = None
        self.observers = []

    @property
    def random_state(self):
        """The variables that layers draw random numbers from.

        They are what a submodel keeps besides its weights.
        """
        weights = {id(v) for v in self.submodel.non_trainable_weights}
        return [
            v for v in self.submodel.non_trainable_variables
            if id(v) not in weights
        ]

    def build(self, spec):
        """Builds the submodel on its device, where that is not done yet.

        Args:
            spec: nest of `keras.KerasTensor`, the input.

        Returns:
            Nest of `keras.KerasTensor`, the output.
        """
        with tf.device(self.device):
            return self.submodel(spec)

    def forward(self, x, random_state=None):
        """Runs the submodel in training mode, leaving its state as it is.

        Args:
            x: nest of tensors, h_{k-1}.
            random_state: values for the variables of `self.random_state`, or
                `None` to go on from their present values.

        Returns:
            Tuple `(features, losses, state)`: the output h_k, the list of
            scalar losses of the layers (regularizers, `add_loss`), and the
            list of `(variable, new value)` of all state that moved (moving
            averages, random number generators), to be given to `commit`.
        """
        known = zip(self.random_state, random_state or ())
        with tf.device(self.device):
            with keras.StatelessScope(known, collect_losses=True) as scope:
                features = self.submodel(x, training=True)
            penalties = [
                weight.regularizer(weight)
                for weight in self.submodel.trainable_weights
                if weight.regularizer is not None
            ]
        state = [
            (variable, scope.get_current_value(variable))
            for variable in self.submodel.non_trainable_variables
        ]
        moved = [(var, value) for var, value in state if value is not None]
        return features, [*scope.losses, *penalties], moved

    def commit(self, state):
        """Assigns the state that a forward pass moved."""
        with tf.device(self.device):
            for variable, value in state:
                variable.assign(value)

    def backward(self, tape, targets, target_gradients, x):
        """Backward pass of one module, by the chain rule.

        Args:
            tape: `tf.GradientTape` that recorded the forward pass.
            targets: list of nests of tensors.
            target_gradients: list like `targets`, the gradient of the loss
                with respect to each.
            x: nest of tensors, the module's input.

        Returns:
            Tuple `(gradients, delta)`: g_k, a list with one tensor for each
            trainable variable, and e_k, the nest of the gradient with respect
            to `x` (`None` for the first module).
        """
        variables = [v.value for v in self.submodel.trainable_variables]
        inputs = [] if self.is_first else tf.nest.flatten(x)
        with tf.device(self.device):
            gradients, sent = tape.gradient(
                targets, (variables, inputs), output_gradients=target_gradients
            )
            if self.is_first:
                return gradients, None
            sent = [
                tf.zeros_like(tensor) if gradient is None else gradient
                for tensor, gradient in zip(inputs, sent)
            ]
            return gradients, tf.nest.pack_sequence_as(x, sent)

    def update(self, gradients, learning_rate):
        """One step of the module's optimizer.

        Args:
            gradients: list of tensors, g_k, as `backward` returns it.
            learning_rate: scalar tensor, γ_t.
        """
        if not gradients:
            return
        with tf.device(self.device):
            for observe in self.observers:
                observe(self, gradients)
            self.optimizer.learning_rate = learning_rate
            self.optimizer.apply(
                gradients, self.submodel.trainable_variables
            )
