"""The face of the network that was cut: its layers, names and weights."""


import contextlib

from fr_keras.algorithms.trainer import ModuleTrainer
from fr_keras.engine import private


def _of_network(name, doc):
    """A property that is that of the network."""

    def of_network(self):
        network = self.network
        # A Sequential model has what it is as a graph.
        return getattr(private.functional_of(network) or network, name)

    return property(of_network, doc=doc)


class Face(ModuleTrainer):
    """Lets modules on devices look like the network that was cut.

    Layers, symbolic inputs and outputs, and files of weights are those of the
    plain model.

    Attributes:
        network: `keras.Model`, what is trained, as a whole; raises
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
        """Names of the network's outputs, by which Keras names losses."""
        network = self._network
        last = network[-1] if isinstance(network, list) else network
        return getattr(last, "output_names", None)

    @property
    def layers(self):
        """The layers of the network, or the modules that were given."""
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
        """The variables that are trained: those of the network."""
        if isinstance(self._network, list) or not self.trainable:
            return super().trainable_variables
        return self._network.trainable_variables

    @property
    def trainable_weights(self):
        """The weights that are trained: those of the network."""
        if isinstance(self._network, list) or not self.trainable:
            return super().trainable_weights
        return self._network.trainable_weights

    def save_weights(self, filepath, *args, **kwargs):
        """Saves the weights, as the plain network would.

        Args:
            filepath: str or path, of a file `.weights.h5`.
            *args: as for `keras.Model.save_weights`.
            **kwargs: as for `keras.Model.save_weights`.
        """
        with self._saved() as saved:
            return saved.save_weights(filepath, *args, **kwargs)

    def load_weights(self, filepath, *args, **kwargs):
        """Loads weights that this, or the plain network, has saved.

        Args:
            filepath: str or path, of a file `.weights.h5`.
            *args: as for `keras.Model.load_weights`.
            **kwargs: as for `keras.Model.load_weights`.
        """
        with self._saved() as saved:
            return saved.load_weights(filepath, *args, **kwargs)

    @contextlib.contextmanager
    def _saved(self):
        """What has methods for files of weights; the optimizer is in them."""
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
