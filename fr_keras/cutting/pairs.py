"""Pairs of layers and variables of two models that are alike."""

import tempfile

import keras

from fr_keras.engine import layer_variables, placement, private
from fr_keras.engine.nested import depth_first_order, is_graph, overrides

# Keras' bookkeeping in every layer, which no class computes with.
_HISTORY = frozenset([*vars(keras.layers.Layer()), *vars(keras.Model())])


class CannotCopy(ValueError):
    """A model or layer that Keras cannot copy.

    Attributes:
        layer: `keras.layers.Layer`, or `None` if it is not one layer.
    """

    def __init__(self, message, layer=None):
        super().__init__(message)
        self.layer = layer


class Pairs:
    """Pairs the layers and variables of a model with those of its copy.

    Args:
        source: `keras.layers.Layer`.
        target: `keras.layers.Layer`, its copy.

    Raises:
        ValueError: if the two are not alike.
    """

    def __init__(self, source, target):
        self._source, self._target = source, target
        self.layers = []
        self.variables = []
        self._of = {}
        self._seen = set()
        self._add(source, target)

    def _add(self, source, target):
        """Pairs two layers, unless they are paired already."""
        if (id(source), id(target)) in self._seen:
            return
        self._seen.add((id(source), id(target)))
        if (
            is_graph(source) and is_graph(target)
            and not overrides(source, ["call"])
        ):
            self._add_graph(source, target)
        else:
            self._add_layer(source, target)

    def _add_graph(self, source, target):
        """Pairs by place in the graph, not by order of creation."""
        nodes, others = (
            depth_first_order(private.functional_of(m) or m)
            for m in (source, target)
        )
        if len(nodes) != len(others):
            raise ValueError(
                f"model '{source.name}' has {len(nodes)} calls of layers, its "
                f"copy {len(others)}"
            )
        self.layers.append((source, target))
        for node, other in zip(nodes, others):
            if not isinstance(node.operation, keras.layers.Layer):
                continue
            try:
                self._add(node.operation, other.operation)
            except CannotCopy:
                raise
            except ValueError as error:
                raise CannotCopy(str(error), node.operation) from error
        # The parts of the model that are in no call.
        if type(source) is type(target):
            self._add_own(source, target)

    def _add_layer(self, source, target):
        if type(source) is not type(target):
            raise ValueError(
                f"layer '{source.name}' is a {type(source).__name__}, its "
                f"copy a {type(target).__name__}"
            )
        for name in vars(source).keys() & vars(target).keys() - _HISTORY:
            a, b = vars(source)[name], vars(target)[name]
            if isinstance(a, (bool, int, float, str)) and a != b:
                raise ValueError(
                    f"attribute `{name}` of layer '{source.name}' is {a!r}, "
                    f"but {b!r} when re-created from its configuration"
                )
        self.layers.append((source, target))
        self._add_own(source, target)

    def _add_own(self, source, target):
        for pair in zip(*map(private.own_variables, (source, target))):
            self._add_variables(source, *pair)
        self._add_variables(
            source,
            layer_variables.untracked_variables(source),
            layer_variables.untracked_variables(target),
        )
        for a, b in zip(*map(private.own_metrics, (source, target))):
            self._add_variables(source, a.variables, b.variables)
        # (A copied dropout layer whose rate is now zero has no generator.)
        for a, b in zip(
            *map(private.own_seed_generators, (source, target))
        ):
            self._add_variables(source, [a.state], [b.state])
        layers, others = (
            [layer for layer in private.own_layers(of)
             if not isinstance(layer, keras.layers.InputLayer)]
            for of in (source, target)
        )
        if is_graph(source) and is_graph(target):
            # Layers in the graph were paired by their place in it.
            known = {a for a, _ in self._seen}, {b for _, b in self._seen}
            layers = [x for x in layers if id(x) not in known[0]]
            others = [x for x in others if id(x) not in known[1]]
        if len(layers) != len(others):
            raise ValueError(
                f"layer '{source.name}' has {len(layers)} layers, its copy "
                f"{len(others)}"
            )
        for a, b in zip(layers, others):
            self._add(a, b)

    def _add_variables(self, layer, variables, others):
        if len(variables) != len(others):
            raise ValueError(
                f"layer '{layer.name}' has {len(variables)} variables, its "
                f"copy {len(others)}"
            )
        for a, b in zip(variables, others):
            if (tuple(a.shape), a.dtype) != (tuple(b.shape), b.dtype):
                raise ValueError(
                    f"variable '{a.path}' has shape {tuple(a.shape)} and dtype "
                    f"{a.dtype}, its copy {tuple(b.shape)} and {b.dtype}"
                )
            # The copy must share the same variables, and no others.
            forward = self._of.setdefault(("source", id(a)), id(b))
            backward = self._of.setdefault(("target", id(b)), id(a))
            if (forward, backward) != (id(b), id(a)):
                raise ValueError(
                    f"variable '{a.path}' is shared by other layers than its "
                    "copy"
                )
            self.variables.append((a, b))

    def copy_state(self):
        """Copies the weights, state and flags of the original to the copy."""
        for a, b in self.variables:
            b.assign(a.value)
            b.trainable = a.trainable
            b.regularizer = a.regularizer
            b.constraint = a.constraint
            b.overwrite_with_gradient = a.overwrite_with_gradient
            placement.copy_name(a, b)
        for a, b in self.layers:
            for theirs, ours in zip(
                layer_variables.tf_variables(a), layer_variables.tf_variables(b)
            ):
                ours.assign(theirs)
            private.copy_trainable(a, b)
            # A graph has the policy that was set when it was created.
            private.copy_dtype_policy(a, b)
            # Preprocessing layers keep some results of `adapt` outside of
            # variables.
            if hasattr(a, "get_vocabulary") and a.vocabulary_size() > 1:
                _copy_assets(a, b)
            elif hasattr(a, "bin_boundaries"):
                # Not computed again from the summary, which may be gone.
                b.bin_boundaries, b.summary = a.bin_boundaries, a.summary
            elif hasattr(b, "finalize_state"):
                b.finalize_state()


def _copy_assets(a, b):
    """Copies the vocabulary of one layer to another."""
    with tempfile.TemporaryDirectory() as folder:
        a.save_assets(folder)
        try:
            b.load_assets(folder)
        except Exception as error:
            raise CannotCopy(
                "Keras cannot reload its vocabulary "
                f"({type(error).__name__}: {error})", a,
            ) from error
