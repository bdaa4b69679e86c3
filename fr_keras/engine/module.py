"""A module: a submodel on its device, with its own optimizer."""

import functools

import keras
import tensorflow as tf

from fr_keras.engine import private
from fr_keras.engine.call_scope import CallScope
from fr_keras.engine.features import ErrorGradient
from fr_keras.engine.layer_state import LayerState
from fr_keras.engine.optimizers import apply_gradients, set_learning_rate
from fr_keras.engine.wired_submodel import WiredSubmodel


class Module(WiredSubmodel):
    """A submodel, its device and the optimizer that updates it.

    The methods are the building blocks of every algorithm. They place all their
    operations on the module's device, regardless of the device scope in force.

    `forward` takes the inputs that the submodel uses and returns the outputs
    that it computes.

    Args:
        submodel: `keras.layers.Layer` whose variables, if any exist yet, are
            on `device`.
        device: full device name.

    Attributes:
        state: `fr_keras.engine.layer_state.LayerState`, what layers assign.
        optimizer: the module's own `keras.optimizers.Optimizer`, set by
            `fr_keras.engine.optimizers.ModuleOptimizers`.
        observers: list of callables `observe(module, gradients)`, called while
            the update is traced, with the gradients (list of tensors or
            `None`, one for each trainable variable) that the update will use.
            They return `None`, or a callable without arguments to call after
            the update.
        guard: `fr_keras.engine.guard.Guard` of updates and state, or `None`.
        look_ahead: `fr_keras.delays.look_ahead.LookAhead`, or `None`.
    """

    def __init__(self, submodel, device):
        super().__init__(submodel, device)
        self.state = LayerState(submodel)
        self.optimizer = None
        self.observers = []
        self.guard = None
        self.look_ahead = None
        with tf.device(device):
            self._seed_generator = keras.random.SeedGenerator(self.draw_seed())
        self.state.random = {id(self.random_state)}

    def draw_seed(self):
        """Returns a seed for layers without their own seed generator."""
        return int(private.global_seed_generator().next(ordered=False)[0])

    @property
    def variables(self):
        """All variables of the submodel and of the optimizer."""
        return [*self.submodel.variables, *self.optimizer.variables]

    @property
    def replayed_state(self):
        """The variables whose values in play a replay must use."""
        return self.state.replayed

    @property
    def random_state(self):
        """The state of random layers without their own seed generator."""
        return self._seed_generator.state

    @property
    def loss_scale(self):
        """The factor that scales the module's gradients, or `None`.

        Scalar tensor: the current scale of a
        `keras.optimizers.LossScaleOptimizer`, or the `loss_scale_factor` of
        another optimizer.
        """
        scale = getattr(self.optimizer, "dynamic_scale", None)
        if scale is None:
            scale = getattr(self.optimizer, "loss_scale_factor", None)
        return None if scale is None else tf.convert_to_tensor(scale)

    def rescaled(self, delta):
        """Returns δ_k at the module's own loss scale.

        Args:
            delta: `ErrorGradient`, multiplied by the loss scale that the module
                above had when it computed it.
        """
        scale = self.loss_scale
        if scale is None:
            return delta
        with tf.device(self.device):
            factor = scale / delta.scale
            tensors = [
                None if tensor is None else _multiply(tensor, factor)
                for tensor in delta.tensors
            ]
        return ErrorGradient(tensors, scale)

    def forward(self, x, state=(), ahead=None):
        """Runs the submodel in training mode without changing its state.

        Args:
            x: `Features`, the used part of h_{k-1}.
            state: list of `(variable, value)` to use in place of the current
                values.
            ahead: callable that returns such a list of predicted weights, like
                `LookAhead.play`, or `None` for the current weights.

        Returns:
            Tuple `(outputs, losses, state_updates)`: `Features`, the part of
            h_k that the submodel computes; the list of scalar losses of the
            layers (regularizers, `add_loss`); and the list of `(variable, new
            value)` of all state that changed (moving averages, random number
            generators), for `commit`.
        """
        state = list(state)
        outputs, losses, state_updates = self._run_with(x, state, ahead)
        # What layers assign must derive from current weights, not predictions.
        if ahead is not None and self.look_ahead.leave_out(
            [variable for variable, _ in state_updates]
        ):
            outputs, losses, state_updates = self._run_with(x, state, ahead)
        self.state.record(
            [variable for variable, _ in state_updates],
            self.trainable_variables,
        )
        return outputs, losses, state_updates

    def _run_with(self, x, state, ahead):
        """Computes the results of `forward` with the given values."""
        # Layers without their own seed generator share a global one. Each
        # module replaces it with its own, so that it waits for no other module.
        with tf.init_scope():  # Keras may have to create it again.
            shared_seed = private.global_seed_generator().state
        own_seed = self._seed_generator.state
        values = [(shared_seed, own_seed)] + [
            (shared_seed if variable is own_seed else variable, value)
            for variable, value in state
        ]
        with tf.device(self.device):
            values += ahead() if ahead is not None else []
            with CallScope(values) as scope:
                outputs = self.run(x)
                # These depend on the weights after layers have assigned them.
                penalties = [
                    weight.regularizer(weight)
                    for weight in self.trainable_variables
                    if weight.regularizer is not None
                ]
        state_updates = [
            (own_seed if variable is shared_seed else variable, value)
            for variable, value in scope.assigned
        ]
        return outputs, [*scope.losses, *penalties], state_updates

    def watch(self, tape, x):
        """Makes a tape watch the inputs that have an error gradient."""
        tape.watch(self.watched(x))

    def commit(self, state_updates):
        """Assigns the state changes of a forward pass.

        Args:
            state_updates: list of `(variable, value)` from `forward`.

        Returns:
            List of tensors, the previous values of `replayed_state`.
        """
        with tf.device(self.device):
            return self.state.commit(state_updates, self.guard)

    def backward(
        self, tape, x, losses, outputs=None, delta=(), loss_weight=1.0,
        share=None,
    ):
        """Runs the backward pass of the module, by the chain rule.

        Args:
            tape: `tf.GradientTape` that recorded the forward pass.
            x: `Features`, the used part of the input.
            losses: list of scalar tensors that the module minimizes.
            outputs: `Features`, computed by `forward`; not needed for the last
                module, where the losses depend on it.
            delta: list of tensors, δ_k as `received` returns it.
            loss_weight: float, the weight of the losses.
            share: `fr_keras.batches.shards.Share`, another weight, or `None`.

        Returns:
            Tuple `(gradients, sent)`: g_k, a list with one tensor for each
            trainable variable (or `None`), and the `ErrorGradient` of the
            used input, both multiplied by the module's loss scale.
        """
        inputs = self.watched(x)
        scale = self.loss_scale
        with tf.device(self.device):
            gradients, sent = tape.gradient(
                [*(self.differentiated(outputs) if outputs else []), *losses],
                ([v.value for v in self.trainable_variables], inputs),
                output_gradients=[*delta] + [
                    loss_weight * _weight(loss, scale, share)
                    for loss in losses
                ],
            )
            sent = [
                tf.zeros_like(tensor) if gradient is None else gradient
                for tensor, gradient in zip(inputs, sent)
            ]
        return gradients, ErrorGradient(sent, scale)

    def update(self, gradients, learning_rate, is_due=True):
        """Applies one step of the module's optimizer.

        Args:
            gradients: list of tensors, g_k, as `backward` returns it.
            learning_rate: γ_t, from `ModuleOptimizers.next_learning_rate`.
            is_due: bool or scalar bool tensor, whether to update at all.

        Returns:
            Scalar tensor, the number of updates of the module so far.
        """
        # The loss may not depend on this module's weights, for instance if
        # their output is only used in comparisons.
        if all(gradient is None for gradient in gradients):
            return tf.convert_to_tensor(self.optimizer.iterations)
        def step():
            set_learning_rate(self.optimizer, learning_rate)
            # An optimizer with a dynamic scale handles overflow itself.
            if self.guard is None or hasattr(self.optimizer, "dynamic_scale"):
                self._apply(gradients)
            else:
                self.guard(gradients, lambda: self._apply(gradients))

        with tf.device(self.device):
            if is_due is True:
                step()
            else:
                tf.cond(is_due, step, lambda: None)
            return tf.convert_to_tensor(self.optimizer.iterations)

    def _apply(self, gradients):
        scale = self.loss_scale
        after_update = [
            observe(self, [
                gradient if gradient is None or scale is None
                else keras.ops.divide(gradient, scale)
                for gradient in gradients
            ])
            for observe in self.observers
        ]
        update = functools.partial(
            apply_gradients, self.optimizer, gradients,
            self.trainable_variables,
        )
        if self.look_ahead is None:
            update()
        else:
            self.look_ahead.record(update)
        for call in after_update:
            if call is not None:
                call()


def side_network(make, inputs, device, make_optimizer):
    """Creates an auxiliary network that is trained separately.

    For instance a synthesizer of error gradients, or a local classifier.

    Args:
        make: callable without arguments that returns a `keras.Model`.
        inputs: `keras.KerasTensor` or tensor, the network's input.
        device: full device name.
        make_optimizer: callable without arguments that returns a
            `keras.optimizers.Optimizer`.

    Returns:
        `Module`, built on the device, as is its optimizer.
    """
    with tf.device(device):
        network = Module(make(), device)
        network.build(inputs, [False], is_last=True)
        network.optimizer = make_optimizer()
        network.optimizer.build(network.trainable_variables)
    return network


def _multiply(tensor, factor):
    """Multiplies a tensor by a scalar, in the wider of their dtypes."""
    dtype = max(tensor.dtype, factor.dtype, key=lambda dtype: dtype.size)
    product = tf.cast(tensor, dtype) * tf.cast(factor, dtype)
    return tf.cast(product, tensor.dtype)


def _weight(loss, scale, share):
    """Returns a weight of a loss, like it: its scale times its share."""
    weight = tf.ones_like(loss) if scale is None else tf.cast(scale, loss.dtype)
    return weight if share is None else weight * share.weight(loss.dtype)
