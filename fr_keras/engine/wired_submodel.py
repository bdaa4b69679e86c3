"""A submodel between others: its inputs, outputs and pass-through tensors."""

import keras
import tensorflow as tf

from fr_keras.engine import placement, private
from fr_keras.engine.calling import call_quietly, outputs_for
from fr_keras.engine.casts import NoCasts
from fr_keras.engine.features import ErrorGradient, Features
from fr_keras.engine.wiring import Wiring


class WiredSubmodel:
    """A submodel on its device, wired to those below and above.

    `used`, `output`, `received` and `sent` route pass-through tensors around it
    (see `fr_keras.engine.wiring.Wiring`).

    Args:
        submodel: `keras.layers.Layer` whose variables, if any exist yet, are
            on `device`.
        device: full device name.

    Attributes:
        learns: bool, whether the submodel needs a backward pass.
        wiring, casts: `Wiring`, when built, and `NoCasts` or `LinkCasts`.
    """

    def __init__(self, submodel, device):
        self.submodel = submodel
        self.device = device
        self.learns = True
        self.wiring = None
        self.casts = NoCasts()
        self._trainable_variables = None
        self._trained = None

    @property
    def trainable_variables(self):
        """The variables that are updated.

        These are the variables that are trainable at the first access, when
        training begins. As in Keras, freezing or unfreezing layers later
        requires another `compile`.
        """
        if self._trainable_variables is None:
            self._trainable_variables = [
                variable for variable in self.submodel.trainable_variables
                if self._trained is None or id(variable) in self._trained
            ]
        return self._trainable_variables

    def reset_trainable_variables(self, trained=None):
        """Makes the next access to `trainable_variables` determine them again.

        Args:
            trained: list of the trainable variables of the whole network, which
                may be frozen although its layers are not; `None` for all
                trainable variables of the submodel.
        """
        self._trainable_variables = None
        self._trained = (
            None if trained is None else {id(variable) for variable in trained}
        )

    def build(self, inputs, differentiable, is_last):
        """Builds the submodel on its device, unless it is built already.

        Args:
            inputs: nest of `keras.KerasTensor`, or of tensors.
            differentiable: list of bool: for each input tensor, whether it
                depends on trainable variables below, so that it has an error
                gradient.
            is_last: bool, whether the output is that of the network.

        Returns:
            Tuple `(outputs, differentiable)` like the arguments, for the next
            module.
        """
        with tf.device(self.device):
            outputs = outputs_for(self.submodel, inputs)
        flat_outputs = keras.tree.flatten(outputs)
        self.wiring = Wiring(
            self.submodel, len(differentiable), len(flat_outputs), is_last
        )
        used, computed = self.wiring.used, self.wiring.computed
        self._input_structure = keras.tree.map_structure(
            lambda _: None,
            [None] * len(used) if self.wiring.passthrough else inputs,
        )
        self._output_structure = keras.tree.map_structure(
            lambda _: None, outputs
        )
        self._num_inputs = len(differentiable)
        self._watched = [i for i, j in enumerate(used) if differentiable[j]]
        self.learns = bool(self.trainable_variables or self._watched)
        depends_on_weights = self.wiring.output(
            differentiable, [self.learns] * len(computed)
        )
        differentiable = [
            depends and tf.as_dtype(output.dtype).is_floating
            for depends, output in zip(depends_on_weights, flat_outputs)
        ]
        self._differentiated = [
            i for i, j in enumerate(computed) if differentiable[j]
        ]
        return outputs, differentiable

    def run(self, x):
        """Runs the submodel in training mode.

        Args:
            x: `Features`, the used part of the input.

        Returns:
            `Features`, the outputs that the submodel computes.
        """
        inputs = keras.tree.pack_sequence_as(self._input_structure, _masked(x))
        outputs = keras.tree.flatten(
            call_quietly(self.wiring.core, inputs, training=True)
        )
        return Features(outputs, list(map(private.mask_of, outputs)))

    def watched(self, x):
        """Returns the tensors of the used input that have an error gradient."""
        return [x.tensors[i] for i in self._watched]

    # Routing around the submodel.

    def standardize(self, x):
        """Converts data to features, for the first module.

        Args:
            x: nest of tensors, data for the submodel.

        Returns:
            `Features`.
        """
        if self.wiring.passthrough:
            # In host memory, where the data is: other modules use some of it.
            with tf.device(placement.host(self.device)):
                # As in Keras: dicts by name, dtypes, missing dimensions.
                tensors = private.standardize_inputs(self.submodel, x)
        else:
            tensors = keras.tree.flatten(x)
        return Features(tensors, [None] * len(tensors))

    def used(self, features):
        """Returns the part of the input that the submodel uses, `Features`."""
        used = self.wiring.used
        tensors = self.casts.arrived([features.tensors[j] for j in used], used)
        return Features(tensors, [features.masks[j] for j in used])

    def open_spec(self, spec):
        """Relaxes dimensions that the submodel leaves unspecified in its input.

        Args:
            spec: `Features` of `tf.TypeSpec`, the used part of the input.

        Returns:
            The same, with the shapes of the submodel's symbolic inputs if it
            has any; otherwise unchanged. As in Keras, a batch may have another
            size than the symbolic inputs.
        """
        inputs = getattr(self.submodel, "inputs", None)
        if not inputs:
            return spec
        return spec._replace(tensors=[
            _opened(tensor, inputs[j].shape)
            for j, tensor in zip(self.wiring.used, spec.tensors)
        ])

    def output(self, features, computed):
        """Returns the whole output, `Features`, with pass-through tensors.

        Args:
            features: `Features`, the whole input.
            computed: `Features`, computed by `forward` from the used part.
        """
        leaving = self.casts.leaving(computed.tensors, self.wiring.computed)
        return Features(
            self.wiring.output(features.tensors, leaving),
            self.wiring.output(features.masks, computed.masks),
        )

    def computed(self, output):
        """Returns the computed part of the whole output, `Features`."""
        return Features(
            [output.tensors[i] for i in self.wiring.computed],
            [output.masks[i] for i in self.wiring.computed],
        )

    def packed(self, outputs):
        """Packs the whole output, masks included, in the submodel's structure.

        Args:
            outputs: `Features`.

        Returns:
            Nest of tensors.
        """
        return keras.tree.pack_sequence_as(
            self._output_structure, _masked(outputs)
        )

    def differentiated(self, computed):
        """Returns the computed tensors that have an error gradient."""
        return [computed.tensors[i] for i in self._differentiated]

    def received(self, delta):
        """Returns δ_k for the outputs that the submodel computes.

        Args:
            delta: `ErrorGradient` of the whole output.

        Returns:
            List of tensors, for `backward`.
        """
        outputs = [self.wiring.computed[i] for i in self._differentiated]
        return self.casts.error_arrived(
            [delta.tensors[i] for i in outputs], outputs
        )

    def spread(self, gradients):
        """Expands gradients to `ErrorGradient.tensors` of the whole output.

        Args:
            gradients: list of tensors, as `received` returns it.
        """
        computed, passthrough = self.wiring.computed, self.wiring.passthrough
        tensors = [None] * (len(computed) + len(passthrough))
        for i, gradient in zip(self._differentiated, gradients):
            tensors[computed[i]] = gradient
        return tensors

    def sent(self, gradients, delta=None):
        """Returns e_k, the error gradient of the whole input.

        Args:
            gradients: `ErrorGradient` of the used part, from `backward`.
            delta: `ErrorGradient` of the whole output, at the same scale, part
                of which passes through; unused for the last module.

        Returns:
            `ErrorGradient`.
        """
        tensors = [None] * self._num_inputs
        inputs = [self.wiring.used[i] for i in self._watched]
        own = self.casts.error_leaving(gradients.tensors, inputs)
        for j, gradient in zip(inputs, own):
            tensors[j] = gradient
        with tf.device(self.device):
            for i, j in self.wiring.passthrough.items():
                if delta.tensors[i] is not None:
                    tensors[j] = (
                        delta.tensors[i] if tensors[j] is None
                        else tensors[j] + delta.tensors[i]
                    )
        return ErrorGradient(tensors, gradients.scale)


def _masked(features):
    """Returns the tensors with their masks attached as Keras expects them."""
    for tensor, mask in zip(*features):
        if mask is not None:
            private.set_mask(tensor, mask)
    return features.tensors


def _opened(spec, declared):
    """The spec of a tensor for which another shape is declared.

    What is not declared may vary, and so may the batch size. Other dimensions
    that the tensor lacks are those declared.
    """
    if not isinstance(spec, tf.TensorSpec) or spec.shape.rank != len(declared):
        return spec
    shape = [
        theirs if None in (own, theirs) else own
        for own, theirs in zip(spec.shape, declared)
    ]
    if shape and spec.shape[0] is None:
        shape[0] = None
    return tf.TensorSpec(shape, spec.dtype)
