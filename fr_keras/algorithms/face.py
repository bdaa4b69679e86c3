"""The Keras model around pipelines: calls, evaluation, layers, weights."""

import contextlib

import keras
import tensorflow as tf

from fr_keras.algorithms.objective import Objective, check_sample_weight
from fr_keras.algorithms.outside_training import warn_on_gradient
from fr_keras.algorithms.pipeline import BasePipeline
from fr_keras.algorithms.places import Places, check_no_strategy
from fr_keras.batches import labels
from fr_keras.batches.reading import Reading, reads
from fr_keras.engine import private
from fr_keras.engine.calling import call_quietly


def _delegated(name, doc):
    """Returns a property that delegates to the network."""

    def delegated(self):
        network = self.network
        # A Sequential model holds an equivalent Functional model.
        return getattr(private.functional_of(network) or network, name)

    return property(delegated, doc=doc)


class Face(keras.Model):
    """Presents modules on devices as the original network.

    Layers, symbolic inputs and outputs, and weight files are those of the
    plain model, and so are the results of `evaluate` and `predict`.

    Args:
        network: `keras.Model`, the network as a whole, or the list of its
            modules. Keras tracks, saves and lists its layers, so that weights
            do not depend on the split.
        modules: list of r lists of K `fr_keras.engine.module.Module`, its
            parts and their copies.
        is_copy: bool, whether the network is a copy that only this model uses,
            so that its weights need not be moved back to their original places.
        copies: list of r - 1 `fr_keras.replicas.network_copy.NetworkCopy`s.
        **kwargs: arguments of `keras.Model`.

    Attributes:
        pipelines: list of `fr_keras.algorithms.pipeline.BasePipeline`s, of the
            same network.
        network_copies: tuple, the argument `copies`.
        objective: `fr_keras.algorithms.objective.Objective`.
        places: `fr_keras.algorithms.places.Places`.
        network: `keras.Model`, the trained network as a whole; raises
            `AttributeError` if ready-made modules were given.
    """

    inputs = _delegated("inputs", "Flat list of the network's inputs.")
    outputs = _delegated("outputs", "Flat list of the network's outputs.")
    input = _delegated("input", "The network's input, in its structure.")
    output = _delegated("output", "The network's output, in its structure.")
    input_shape = _delegated("input_shape", "Shape of the network's input.")
    output_shape = _delegated(
        "output_shape", "Shape of the network's output."
    )

    # The `fr_keras.algorithms.pipeline.BasePipeline` of the training method.
    pipeline_class: type[BasePipeline] = BasePipeline

    # In `simulation.SCHEDULES`, for `num_modules="auto"`; `None` if in none.
    schedule: str | None = None

    evaluate = reads(keras.Model.evaluate)
    predict = reads(keras.Model.predict)
    has_warned = False

    def __init__(self, network, modules, is_copy, copies=(), **kwargs):
        super().__init__(**kwargs)
        self._network = network
        self.network_copies = tuple(copies)
        self.pipelines = [
            self.pipeline_class(self, of_pipeline, number)
            for number, of_pipeline in enumerate(modules)
        ]
        self.objective = Objective(self)
        everywhere = [module for row in modules for module in row]
        self.places = Places(everywhere, self.parts, remember=not is_copy)
        self.places.move_to_devices()
        self.built = self.layers_are_built()

    def layers_are_built(self):
        """Whether all layers, and their copies, have their weights."""
        return all(
            layer.built for layer in private.sublayers(self, include_self=False)
        ) and all(copy.is_built() for copy in self.network_copies)

    @property
    def parts(self):
        """list of `keras.layers.Layer`: the network, or the given modules."""
        network = self._network
        return list(network) if isinstance(network, list) else [network]

    @property
    def pipeline(self):
        """The pipeline whose modules are those of the network."""
        return self.pipelines[0]

    @property
    def devices(self) -> tuple[str, ...]:
        return tuple(self.pipeline.devices)

    @property
    def modules(self) -> tuple[keras.layers.Layer, ...]:
        return tuple(module.submodel for module in self.pipeline.modules)

    @property
    def num_modules(self) -> int:
        return self.pipeline.num_modules

    @property
    def network(self):
        network = self._network
        if isinstance(network, list):
            raise AttributeError(
                "A model made from a list of modules has no symbolic inputs "
                "and outputs. Use `to_keras()` to merge the modules into one "
                f"Keras model. Received: model={self!r}"
            )
        return network

    @property
    def output_names(self):
        """Names of the network's outputs, from which Keras names losses."""
        network = self._network
        last = network[-1] if isinstance(network, list) else network
        return getattr(last, "output_names", None)

    @property
    def layers(self):
        """The layers of the network, or the given modules."""
        network = self._network
        return list(network) if isinstance(network, list) else network.layers

    @layers.setter
    def layers(self, layers):
        raise AttributeError(
            "`layers` cannot be set: they are the layers of the network that "
            f"was split. Received: layers={layers!r}"
        )

    @property
    def trainable_variables(self):
        """The trainable variables of the network."""
        if isinstance(self._network, list) or not self.trainable:
            return super().trainable_variables
        return self._network.trainable_variables

    @property
    def trainable_weights(self):
        """The trainable weights of the network."""
        if isinstance(self._network, list) or not self.trainable:
            return super().trainable_weights
        return self._network.trainable_weights

    def save_weights(self, filepath, *args, **kwargs):
        """Saves the weights, as the plain network would.

        Args:
            filepath: str or path of a `.weights.h5` file.
            *args: as for `keras.Model.save_weights`.
            **kwargs: as for `keras.Model.save_weights`.
        """
        with self._saved() as saved:
            return saved.save_weights(filepath, *args, **kwargs)

    def load_weights(self, filepath, *args, **kwargs):
        """Loads weights that this model or the plain network has saved.

        Args:
            filepath: str or path of a `.weights.h5` file.
            *args: as for `keras.Model.load_weights`.
            **kwargs: as for `keras.Model.load_weights`.
        """
        with self._saved() as saved:
            return saved.load_weights(filepath, *args, **kwargs)

    @contextlib.contextmanager
    def _saved(self):
        """Yields the object that saves weights, including the optimizer's."""
        network = self._network
        if isinstance(network, list):
            yield super()
            return
        optimizer = getattr(self, "optimizer", None)
        own = vars(network).get("optimizer")
        if optimizer is not None:
            vars(network)["optimizer"] = optimizer
        try:
            yield network
        finally:
            if optimizer is not None:
                vars(network)["optimizer"] = own

    @property
    def distribute_strategy(self):
        """Strategy by which Keras reads datasets; modules ignore it."""
        return Reading()

    def build(self, input_shape=None):
        """Does nothing: the modules are built with the first batch."""
        del input_shape
        self.built = True

    def call(self, inputs, training=None):
        outputs = inputs
        for module in self.pipeline.modules:
            with tf.device(module.device):
                outputs = call_quietly(
                    module.submodel, outputs, training=training
                )
        if training and (self.delays is None or any(self.delays)):
            outputs = warn_on_gradient(self, outputs)
        return outputs

    def _check_places(self):
        """Moves the modules to their devices; checks that they are there."""
        check_no_strategy()
        if self.places.are_restored:
            self.places.move_to_devices()
            self.train_function = None
            self.test_function = None
            self.predict_function = None
        self.places.check()

    def make_predict_function(self, force=False):
        self._check_places()
        super().make_predict_function(force)

    def make_test_function(self, force=False):
        self._check_places()
        if self.test_function is None or force:
            super().make_test_function(force=True)
            self.test_function = labels.reports_wrong_labels(self.test_function)

    def compute_loss(
        self, x=None, y=None, y_pred=None, sample_weight=None, training=True
    ):
        """Computes the loss that was passed to `compile`.

        Unlike in other Keras models, it does not include the losses of the
        layers (regularizers, `add_loss`): each belongs to its module.

        Args:
            x: not used.
            y: nest of tensors, the labels.
            y_pred: nest of tensors, the output of the last module.
            sample_weight: nest of tensors or `None`.
            training: not used.

        Returns:
            Scalar tensor, or `None` if no loss was given.
        """
        del x, training
        if private.compiled_loss(self) is None:
            return None
        check_sample_weight(y_pred, sample_weight)
        return private.compiled_loss(self)(y, y_pred, sample_weight)

    def test_step(self, data):
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        y_pred = self(x, training=False)
        with tf.device(self.devices[-1]):
            labels.check(self.loss, y, y_pred)
            with self.objective.explain_errors(y, y_pred):
                losses = self.objective.losses(
                    y, y_pred, sample_weight, self.losses, training=False
                )
                self.objective.count_losses(losses, y_pred)
                return self.compute_metrics(x, y, y_pred, sample_weight)
