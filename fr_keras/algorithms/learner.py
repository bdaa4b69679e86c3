"""Learning in an iteration: loss, gradients, updates."""

import functools
import itertools

import tensorflow as tf

from fr_keras.algorithms.compiler import ModuleCompiler
from fr_keras.algorithms.evaluator import given
from fr_keras.engine import private
from fr_keras.engine.device_function import DeviceFunction
from fr_keras.engine.features import ErrorGradient


class ModuleLearner(ModuleCompiler):
    """The part of an iteration that all methods share.

    This is the last module's forward and backward pass, including the loss,
    and the update of all modules.
    """

    def make_learning_functions(self):
        """Makes the functions of `learn` and `update`, to be called first."""
        # Gradients and update are two functions on purpose. In one, the update
        # of a weight can overtake the computation of e_k, which reads it:
        # TensorFlow's dependency optimizer assumes that the IdentityN through
        # which Keras passes all gradients orders the two, drops the control
        # edge between them, and then splits the IdentityN.
        last = self.modules_at_work[-1]
        self._learn = DeviceFunction(
            self._learn_batch, last.device, self._uses_xla[-1],
            self.run_eagerly, len(self.modules_at_work) - 1,
        )
        # Separate, since nothing waits for it and XLA cannot compile all
        # metrics.
        self._count = DeviceFunction(
            self._count_batch, last.device, run_eagerly=self.run_eagerly
        )
        self._update = self.on_devices(
            module.update for module in self.modules_at_work
        )

    def learn(self, x, y, sample_weight, losses_below, *rates):
        """Runs the last module's part of an iteration, shared by all methods.

        Forward pass, loss, backward pass and metrics.

        Args:
            x: `Features`, h_{K-1}.
            y: nest of tensors, the labels.
            sample_weight: nest of tensors or `None`.
            losses_below: list of scalar tensors, the losses of the layers of
                the other modules, which are reported but not differentiated.
            *rates: the learning rates with which the last module looks ahead,
                if it does: see `fr_keras.delays.look_ahead.LookAhead.replay`.

        Returns:
            Tuple `(gradients, sent, state)`: g_K, a list of tensors; e_K, the
            `ErrorGradient` of `x`; and the updated state, as returned by
            `Module.commit`.
        """
        gradients, sent, outputs, losses, state = self._learn(
            x, y, sample_weight, *rates
        )
        self._count(losses + losses_below, y, outputs, sample_weight)
        return gradients, self.modules_at_work[-1].sent(sent), state

    def _learn_batch(self, x, y, sample_weight, *rates):
        *learned, moved = self.differentiate_loss(
            x, y, sample_weight, (), *rates
        )
        return *learned, self.modules_at_work[-1].commit(moved)

    def differentiate_loss(self, x, y, sample_weight, state=(), *rates):
        """Runs the last module forward and backward, without changing state.

        Args:
            x: `Features`, h_{K-1}.
            y: nest of tensors, the labels.
            sample_weight: nest of tensors or `None`.
            state: as for `fr_keras.engine.forward_backward.record`.
            *rates: as for `learn`.

        Returns:
            Tuple `(gradients, sent, outputs, losses, moved)`: as returned by
            `Module.backward` and `Module.forward`, with the loss of `compile`
            as the first of the losses.
        """
        module = self.modules_at_work[-1]
        with tf.GradientTape() as tape:
            module.watch(tape, x)
            outputs, losses, moved = module.forward(
                x, zip(module.replayed_state, state),
                functools.partial(module.look_ahead.replay, *rates)
                if rates else None,
            )
            loss = self.compute_loss(
                y=y, y_pred=module.packed(outputs), sample_weight=sample_weight
            )
        losses = given(loss, losses)
        gradients, sent = module.backward(tape, x, losses)
        return gradients, sent, outputs, losses, moved

    def _count_batch(self, losses, y, outputs, sample_weight):
        """Adds a batch to the loss and the metrics."""
        y_pred = self.modules_at_work[-1].packed(outputs)

        def count():
            self._count_losses(losses, y_pred)
            metrics = private.compiled_metrics(self)
            if metrics is not None:
                metrics.update_state(y, y_pred, sample_weight)

        if self.loss_guard is None:
            count()
        else:
            self.loss_guard(losses, count)

    def update(self, gradients, learning_rate):
        """Updates each module on its device with its own optimizer.

        Args:
            gradients: list of K lists of tensors, g_k; `None` for a module
                that is not to be updated.
            learning_rate: γ_t, of `self.optimizer.next_learning_rate()`.
        """
        for k, of_module in enumerate(gradients):
            if of_module is not None:
                self._update[k](of_module, self.rates_of(k, learning_rate))

    def rates_of(self, k, learning_rate):
        """Returns the learning rates of one module (hook).

        Args:
            k: int, the number of the module, from 0.
            learning_rate: list of scalar tensors, the rates common to all
                modules, for each optimizer inside the given one.

        Returns:
            List like `learning_rate`.
        """
        return learning_rate

    def trace_features(self, functions, others=()):
        """Traces the forward functions of all modules but the last.

        Args:
            functions: list of `ForwardFunction`s, one for each module, which
                return h_k, the values that the module keeps, and more.
            others: list of lists of the arguments of each besides h_{k-1}, if
                any.

        Returns:
            List of tuples `(features, kept, graph)`, one for each module but
            the last: nests of `tf.TensorSpec`, the module's whole output and
            the values it keeps, and the `tf.Graph`.
        """
        x, _, _ = self._batch_spec.structure
        features = tf.function(
            self.modules_at_work[0].standardize, autograph=False
        ).get_concrete_function(x).structured_outputs
        traced = []
        for function, more in itertools.zip_longest(
            functions[:-1], others, fillvalue=()
        ):
            (features, kept, *_), graph = function.trace(features, *more)
            traced.append((features, kept, graph))
        return traced

    def delta_spec(self, k, features):
        """Returns the spec of the error gradient of a module's features.

        Args:
            k: int, the number of the module, from 0.
            features: `Features` of `tf.TensorSpec`, its output.

        Returns:
            `ErrorGradient` of `tf.TensorSpec`.
        """
        scale = self.modules_at_work[-1].loss_scale
        return ErrorGradient(
            [
                spec if differentiable else None
                for spec, differentiable in zip(
                    features.tensors, self._chain.differentiable[k]
                )
            ],
            None if scale is None else tf.TensorSpec.from_tensor(scale),
        )
