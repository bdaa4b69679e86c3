"""One module at work: a submodel on its device, with its own optimizer."""

import contextlib
import re
import typing
import warnings

import keras
import tensorflow as tf
from keras.src.random.seed_generator import global_seed_generator

from fr_keras.call_scope import CallScope
from fr_keras.guard import finite_or_before
from fr_keras.optimizers import set_learning_rate
from fr_keras.tied import flat_layers
from fr_keras.wiring import Wiring


def call_quietly(submodel, inputs, **kwargs):
    """Calls a submodel without Keras' warning about masks at its input.

    Keras takes a Functional model for a layer that ignores masks, while it
    hands them to its layers.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", f"Layer '{re.escape(submodel.name)}'.*masking"
        )
        return submodel(inputs, **kwargs)


class Features(typing.NamedTuple):
    """What crosses a boundary between modules, as flat lists.

    Attributes:
        tensors: list of tensors.
        masks: list of Keras' masks of these tensors, `None` where there is
            none.
    """

    tensors: list
    masks: list


class ErrorGradient(typing.NamedTuple):
    """The gradient of the loss with respect to some features.

    Attributes:
        tensors: list of tensors, `None` where nothing that is trained depends
            on it.
        scale: scalar tensor, by what the loss was multiplied, or `None`.
    """

    tensors: list
    scale: tf.Tensor | None


class Module:
    """A submodel, the device it lives on and the optimizer that updates it.

    The methods are the pieces that every algorithm is put together from. They
    place all their operations on the module's device, whichever device is in
    scope where they are called.

    `forward` takes the inputs that the submodel uses and gives the outputs
    that it makes; `used`, `output`, `received` and `sent` lead around it what
    only passes (see `fr_keras.wiring.Wiring`).

    Args:
        submodel: `keras.layers.Layer` whose variables, if it has any yet, are
            on `device`.
        device: full device name.

    Attributes:
        learns: bool, whether a backward pass has anything to do here.
        assigned: list of the variables that layers assign when they are
            called, known after the first `forward`.
        replayed_state: list of the variables whose values in play a replay
            must use, known after the first `forward`. That is all state that
            layers assign, above all that of random number generators, but for
            the averages of batch normalization, which training only writes,
            and for trainable weights, as a replay uses those of today.
        averages: list of these averages, known after the first `forward`.
        optimizer: the module's own `keras.optimizers.Optimizer`, set by
            `fr_keras.optimizers.ModuleOptimizers`.
        observers: list of callables `observe(module, gradients)`, called while
            the update is traced, with the gradients (list of tensors or
            `None`, one for each trainable variable) as the update will use
            them. They return `None`, or a callable without arguments, which is
            called after the update.
        guard: `fr_keras.guard.Guard` of updates and state, or `None`.
        claims: dict from the ids of the variables that layers assign to the
            `Module` that has them, the same dict in all modules of a network.
    """

    def __init__(self, submodel, device):
        self.submodel = submodel
        self.device = device
        self._trainable_variables = None
        self._trained = None
        self.learns = True
        self.assigned = []
        self.replayed_state = []
        self.averages = []
        self.optimizer = None
        self.observers = []
        self.guard = None
        self.claims = {}
        with tf.device(device):
            self._seed_generator = keras.random.SeedGenerator(
                int(global_seed_generator().next(ordered=False)[0])
            )

    @property
    def trainable_variables(self):
        """The variables that are updated.

        They are those that are trainable when this is first asked, which is
        when training begins; as in Keras, to freeze or unfreeze layers later
        takes another `compile`.
        """
        if self._trainable_variables is None:
            self._trainable_variables = [
                variable for variable in self.submodel.trainable_variables
                if self._trained is None or id(variable) in self._trained
            ]
        return self._trainable_variables

    @property
    def variables(self):
        """All variables of the submodel and of the optimizer."""
        return [*self.submodel.variables, *self.optimizer.variables]

    @property
    def random_state(self):
        """The state of random layers without a generator of their own."""
        return self._seed_generator.state

    def choose_trainable_variables_anew(self, trained=None):
        """Lets the next use of `trainable_variables` decide what they are.

        Args:
            trained: list of the variables that are trainable in the network
                as a whole, which may be frozen though its layers are not;
                `None` for all of the submodel that are trainable.
        """
        self._trainable_variables = None
        self._trained = (
            None if trained is None else {id(variable) for variable in trained}
        )

    @property
    def loss_scale(self):
        """What the module's gradients are multiplied by, or `None`.

        Scalar tensor: the present scale of a
        `keras.optimizers.LossScaleOptimizer`, or the `loss_scale_factor` of
        another optimizer.
        """
        scale = getattr(self.optimizer, "dynamic_scale", None)
        if scale is None:
            scale = getattr(self.optimizer, "loss_scale_factor", None)
        return None if scale is None else tf.convert_to_tensor(scale)

    def build(self, inputs, differentiable, is_last):
        """Builds the submodel on its device, where that is not done yet.

        Args:
            inputs: nest of `keras.KerasTensor`, or of tensors.
            differentiable: list of bool, for each tensor of the input
                whether it depends on trainable variables below, so that it
                has an error gradient.
            is_last: bool, whether the output is that of the network.

        Returns:
            Tuple `(outputs, differentiable)` like the arguments, for the next
            module.
        """
        with tf.device(self.device):
            outputs = self._outputs_for(inputs)
        flat_outputs = keras.tree.flatten(outputs)
        self._wiring = Wiring(
            self.submodel, len(differentiable), len(flat_outputs), is_last
        )
        used, made = self._wiring.used, self._wiring.made
        self._input_structure = keras.tree.map_structure(
            lambda _: None,
            [None] * len(used) if self._wiring.passed else inputs,
        )
        self._output_structure = keras.tree.map_structure(
            lambda _: None, outputs
        )
        self._num_inputs = len(differentiable)
        self._watched = [i for i, j in enumerate(used) if differentiable[j]]
        self.learns = bool(self.trainable_variables or self._watched)
        above = [
            depends and tf.as_dtype(output.dtype).is_floating
            for depends, output in zip(
                self._wiring.output(differentiable, [self.learns] * len(made)),
                flat_outputs,
            )
        ]
        self._differentiated = [i for i, j in enumerate(made) if above[j]]
        return outputs, above

    def _outputs_for(self, inputs):
        """What the submodel gives, leaving its state as it is."""
        is_symbolic = all(
            isinstance(tensor, keras.KerasTensor)
            for tensor in keras.tree.flatten(inputs)
        )
        if is_symbolic:
            return call_quietly(self.submodel, inputs)
        if not self.submodel.built:
            # Built by symbols where that is possible.
            with contextlib.suppress(Exception):
                call_quietly(self.submodel, keras.tree.map_structure(
                    lambda tensor: keras.KerasTensor(
                        tensor.shape, tensor.dtype.name
                    ), inputs,
                ))
        if not self.submodel.built:
            return call_quietly(self.submodel, inputs)
        with keras.StatelessScope():
            return call_quietly(self.submodel, inputs)

    # What is led around the submodel.

    def standardize(self, x):
        """Turns data into features; for the first module.

        Args:
            x: nest of tensors, data for the submodel.

        Returns:
            `Features`.
        """
        tensors = (
            # As Keras does it: dicts by name, dtypes, missing dimensions.
            self.submodel._standardize_inputs(x)
            if self._wiring.passed
            else keras.tree.flatten(x)
        )
        return Features(tensors, [None] * len(tensors))

    def used(self, features):
        """The part of the input that the submodel uses, `Features`."""
        return Features(
            [features.tensors[j] for j in self._wiring.used],
            [features.masks[j] for j in self._wiring.used],
        )

    def open_spec(self, spec):
        """Opens the dimensions that the submodel leaves open in its input.

        Args:
            spec: `Features` of `tf.TypeSpec`, the used part of the input.

        Returns:
            The same, as it would be for any batch; where it is not known what
            the submodel takes, as it was.
        """
        inputs = getattr(self.submodel, "inputs", None)
        if not inputs:
            return spec
        return spec._replace(tensors=[
            tf.TensorSpec(inputs[j].shape, tensor.dtype)
            if isinstance(tensor, tf.TensorSpec)
            and tensor.shape.rank == len(inputs[j].shape)
            else tensor
            for j, tensor in zip(self._wiring.used, spec.tensors)
        ])

    def output(self, features, made):
        """The whole output, `Features`: what was made and what passes.

        Args:
            features: `Features`, the whole input.
            made: `Features`, what `forward` made of its used part.
        """
        return Features(
            self._wiring.output(features.tensors, made.tensors),
            self._wiring.output(features.masks, made.masks),
        )

    def packed(self, outputs):
        """The whole output in the submodel's own structure, masks included.

        Args:
            outputs: `Features`.

        Returns:
            Nest of tensors.
        """
        return keras.tree.pack_sequence_as(
            self._output_structure, _masked(outputs)
        )

    def differentiated(self, made):
        """The tensors of `made` that have an error gradient.

        Args:
            made: `Features`, what `forward` made.

        Returns:
            List of tensors.
        """
        return [made.tensors[i] for i in self._differentiated]

    def received(self, delta):
        """The part of δ_k that belongs to what the submodel makes.

        Args:
            delta: `ErrorGradient` of the whole output.

        Returns:
            List of tensors, for `backward`.
        """
        made = [delta.tensors[j] for j in self._wiring.made]
        return [made[i] for i in self._differentiated]

    def sent(self, gradients, delta=None):
        """e_k, the error gradient of the whole input.

        Args:
            gradients: `ErrorGradient` of the used part, from `backward`.
            delta: `ErrorGradient` of the whole output, at the same scale, of
                which a part passes; not needed of the last module.

        Returns:
            `ErrorGradient`.
        """
        tensors = [None] * self._num_inputs
        for i, gradient in zip(self._watched, gradients.tensors):
            tensors[self._wiring.used[i]] = gradient
        with tf.device(self.device):
            for i, j in self._wiring.passed.items():
                if delta.tensors[i] is not None:
                    tensors[j] = (
                        delta.tensors[i] if tensors[j] is None
                        else tensors[j] + delta.tensors[i]
                    )
        return ErrorGradient(tensors, gradients.scale)

    def rescaled(self, delta):
        """δ_k at the module's own loss scale.

        Args:
            delta: `ErrorGradient`, multiplied by the scale of the module above
                when that computed it.

        Returns:
            `ErrorGradient`.
        """
        scale = self.loss_scale
        if scale is None:
            return delta
        with tf.device(self.device):
            factor = scale / delta.scale
            tensors = [
                None if tensor is None else _times(tensor, factor)
                for tensor in delta.tensors
            ]
        return ErrorGradient(tensors, scale)

    # The work.

    def forward(self, x, state=()):
        """Runs the submodel in training mode, leaving its state as it is.

        Args:
            x: `Features`, the used part of h_{k-1}.
            state: list of `(variable, value)` that are to be used in place of
                the present values.

        Returns:
            Tuple `(made, losses, moved)`: `Features` with what the submodel
            makes of h_k, the list of scalar losses of the layers
            (regularizers, `add_loss`), and the list of `(variable, new
            value)` of all state that moved (moving averages, random number
            generators), to be given to `commit`.
        """
        inputs = keras.tree.pack_sequence_as(self._input_structure, _masked(x))
        # Layers without a seed generator of their own share a global one. Each
        # module has another in its place, so that it waits for no other.
        shared_seed = global_seed_generator().state
        own = self._seed_generator.state
        known = [(shared_seed, own)] + [
            (shared_seed if variable is own else variable, value)
            for variable, value in state
        ]
        with tf.device(self.device):
            with CallScope(known) as scope:
                made = call_quietly(self._wiring.core, inputs, training=True)
                # Of weights as the layers have left them.
                penalties = [
                    weight.regularizer(weight)
                    for weight in self.trainable_variables
                    if weight.regularizer is not None
                ]
        moved = [
            (own if variable is shared_seed else variable, value)
            for variable, value in scope.assigned
        ]
        self._claim(variable for variable, _ in moved)
        self.assigned = [variable for variable, _ in moved]
        averages = self._written_only()
        weights = {id(variable) for variable in self.trainable_variables}
        self.replayed_state = [
            v for v, _ in moved if id(v) not in averages | weights
        ]
        self.averages = [v for v, _ in moved if id(v) in averages]
        tensors = keras.tree.flatten(made)
        masks = [getattr(tensor, "_keras_mask", None) for tensor in tensors]
        return Features(tensors, masks), [*scope.losses, *penalties], moved

    def _claim(self, variables):
        """Checks that no other module assigns the same variables."""
        for variable in variables:
            owner = self.claims.setdefault(id(variable), self)
            if owner is not self:
                raise ValueError(
                    "A variable that layers assign when they are called must "
                    "belong to one module. Keep these layers in one module, "
                    "or give each a variable of its own. Received: "
                    f"'{variable.path}', assigned in modules "
                    f"'{owner.submodel.name}' and '{self.submodel.name}'"
                )

    def _written_only(self):
        """Ids of the variables that a training pass writes, but never reads."""
        return {
            id(variable)
            for layer in flat_layers(self.submodel)
            if isinstance(layer, keras.layers.BatchNormalization)
            and not layer.renorm
            for variable in layer.non_trainable_variables
        }

    def watch(self, tape, x):
        """Makes a tape watch the inputs that have an error gradient."""
        tape.watch([x.tensors[i] for i in self._watched])

    def commit(self, moved):
        """Assigns the state that a forward pass moved.

        Args:
            moved: list of `(variable, value)`, as `forward` returns it.

        Returns:
            List of tensors, what the values of `replayed_state` were.
        """
        with tf.device(self.device):
            state = [tf.identity(variable) for variable in self.replayed_state]
            for variable, value in moved:
                if self.guard is not None:
                    value = finite_or_before(variable, value)
                variable.assign(value)
        return state

    def backward(
        self, tape, x, losses, made=None, delta=(), loss_weight=1.0
    ):
        """Backward pass of one module, by the chain rule.

        Args:
            tape: `tf.GradientTape` that recorded the forward pass.
            x: `Features`, the used part of the input.
            losses: list of scalar tensors that the module minimizes.
            made: `Features`, what `forward` made; not needed of the last
                module, where it goes into the losses.
            delta: list of tensors, δ_k as `received` returns it.
            loss_weight: float, the weight of the losses.

        Returns:
            Tuple `(gradients, sent)`: g_k, a list with one tensor for each
            trainable variable (or `None`), and the `ErrorGradient` of the
            used input, both multiplied by the module's loss scale.
        """
        inputs = [x.tensors[i] for i in self._watched]
        scale = self.loss_scale
        with tf.device(self.device):
            gradients, sent = tape.gradient(
                [*(self.differentiated(made) if made else []), *losses],
                ([v.value for v in self.trainable_variables], inputs),
                output_gradients=[*delta] + [
                    loss_weight * (
                        tf.ones_like(loss)
                        if scale is None
                        else tf.cast(scale, loss.dtype)
                    )
                    for loss in losses
                ],
            )
            sent = [
                tf.zeros_like(tensor) if gradient is None else gradient
                for tensor, gradient in zip(inputs, sent)
            ]
        return gradients, ErrorGradient(sent, scale)

    def update(self, gradients, learning_rate):
        """One step of the module's optimizer.

        Args:
            gradients: list of tensors, g_k, as `backward` returns it.
            learning_rate: γ_t, as `ModuleOptimizers.next_learning_rate` has
                it.

        Returns:
            Scalar tensor, how many updates the module has had.
        """
        # The loss need not depend on this module's weights, if what they make
        # is only compared, for instance; that of the others it does.
        if all(gradient is None for gradient in gradients):
            return tf.convert_to_tensor(self.optimizer.iterations)
        with tf.device(self.device):
            set_learning_rate(self.optimizer, learning_rate)
            # Overflow under a scale is that optimizer's own business.
            if self.guard is None or hasattr(self.optimizer, "dynamic_scale"):
                self._apply(gradients)
            else:
                self.guard(gradients, lambda: self._apply(gradients))
            return tf.convert_to_tensor(self.optimizer.iterations)

    def _apply(self, gradients):
        scale = self.loss_scale
        observed = [
            observe(self, [
                gradient if gradient is None or scale is None
                else keras.ops.divide(gradient, scale)
                for gradient in gradients
            ])
            for observe in self.observers
        ]
        self.optimizer.apply(gradients, self.trainable_variables)
        for updated in observed:
            if updated is not None:
                updated()


def _times(tensor, factor):
    """A tensor times a scalar, in the wider of their dtypes."""
    dtype = max(tensor.dtype, factor.dtype, key=lambda dtype: dtype.size)
    product = tf.cast(tensor, dtype) * tf.cast(factor, dtype)
    return tf.cast(product, tensor.dtype)


def _masked(features):
    """The tensors, each with its mask where Keras looks for it."""
    for tensor, mask in zip(*features):
        if mask is not None:
            tensor._keras_mask = mask
    return features.tensors
