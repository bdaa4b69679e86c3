"""The interface of the original network: its layers, names and weights."""


import contextlib

from fr_keras.algorithms.trainer import ModuleTrainer
from fr_keras.engine import private


def _of_network(name, doc):
    """Returns a property that delegates to the network."""

    def of_network(self):
        network = self.network
        # A Sequential model holds an equivalent Functional model.
        return getattr(private.functional_of(network) or network, name)

    return property(of_network, doc=doc)


class Face(ModuleTrainer):
    """Lets modules on devices look like the original network.

    Layers, symbolic inputs and outputs, and weight files are those of the
    plain model.

    Attributes:
        network: `keras.Model`, the trained network as a whole; raises
            `AttributeError` if ready-made modules were given.
    """

    inputs = _of_network("inputs", "Flat list of the network's inputs.")
    outputs = _of_network("outputs", "Flat list of the network's outputs.")
    input = _of_network("input", "The network's input, in its structure.")
    output = _of_network("output", "The network's output, in its structure.")
    input_shape = _of_network("input_shape", "Shape of the network's input.")
    output_shape = _of_network(
        "output_shape", "Shape of the network's output."
    )

    @property
    def network(self):
        network = self._network
        if isinstance(network, list):
            raise AttributeError(
                "Ready-made modules are no network with inputs and outputs of "
                "its own; `to_keras` makes one of them, where it can. "
                f"Received: {self!r}"
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
            "`layers` are those of the network that was cut, and cannot be "
            f"set. Received: {layers!r}"
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
