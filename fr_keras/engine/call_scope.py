"""Scopes that intercept what layers read and assign while they are called."""

import keras
import tensorflow as tf

from fr_keras.engine import private


class CallScope(keras.StatelessScope):
    """Collects the assignments that layers make in `call`.

    Layers may assign any Keras variable: statistics, the states of a stateful
    RNN, a metric, a codebook, even a trainable kernel. In this scope no
    assignment takes effect; all of them are collected in `assigned`.

    As in stock Keras, a variable that is read after its assignment has the new
    value, but the gradient of the variable itself: no gradient flows through
    the assigned expression.

    Args:
        values: list of `(variable, tensor)` to use in place of the current
            values; gradients flow to these tensors.

    Attributes:
        losses: list of scalar tensors, the losses that layers added with
            `add_loss`.
    """

    def __init__(self, values=()):
        super().__init__(list(values), collect_losses=True)
        self._given = dict(self.state_mapping)
        self._assigned = {}

    @property
    def assigned(self):
        """List of `(variable, new value)`."""
        for variable, value in self._assigned.values():
            _check_in_scope(variable, value)
        return list(self._assigned.values())

    @property
    def assigned_ids(self):
        """Set of the ids of the variables that were assigned."""
        return set(self._assigned)

    def get_current_value(self, variable):
        value = super().get_current_value(variable)
        if id(variable) in self._assigned:
            _check_in_scope(variable, value)
        return value

    def add_update(self, update):
        variable, value = update
        self._assigned[id(variable)] = update
        self.state_mapping[id(variable)] = self._as_read(variable, value)

    def _as_read(self, variable, value):
        if not tf.as_dtype(value.dtype).is_floating:
            return value
        given = self._given.get(id(variable))
        if given is None and not variable.trainable:
            return tf.stop_gradient(value)
        current = private.raw_value(variable) if given is None else given
        return _with_gradient_of(tf.convert_to_tensor(current), value)


class LendingScope(keras.StatelessScope):
    """Substitutes the values of some variables within any active scope.

    Unlike in a plain `keras.StatelessScope`, all other variables are read and
    assigned, and losses collected, as if this scope did not exist.

    Args:
        values: list of `(variable, tensor)`; gradients flow to these tensors.
        layer: `keras.layers.Layer` that is called in the scope.
    """

    def __init__(self, values, layer):
        super().__init__(values, collect_losses=True)
        self._lent = set(self.state_mapping)
        self._layer = layer
        self._updates = []
        self._outer = None

    def __enter__(self):
        self._outer = private.get_stateless_scope()
        if self._outer is not None:
            self.collect_losses = self._outer.collect_losses
            self.losses = self._outer.losses
        return super().__enter__()

    def get_current_value(self, variable):
        value = super().get_current_value(variable)
        if value is None and self._outer is not None:
            return self._outer.get_current_value(variable)
        return value

    def add_loss(self, loss):
        if self._outer is None:
            self.losses.append(loss)
        else:
            self._outer.add_loss(loss)

    def add_update(self, update):
        variable, _ = update
        if id(variable) in self._lent:
            raise ValueError(
                f"Layer '{self._layer.name}' assigns '{variable.path}', which "
                "another module owns. All layers that use this variable must "
                "be in one module: use a smaller `num_modules`. "
                f"Received: layer={self._layer!r}"
            )
        if self._outer is None:
            self._updates.append(update)
            super().add_update(update)
        else:
            self._outer.add_update(update)

    def __exit__(self, *args, **kwargs):
        super().__exit__(*args, **kwargs)
        if self._outer is None:
            for variable, value in self._updates:
                variable.assign(value)
            private.add_losses(self._layer, self.losses)


def _check_in_scope(variable, value):
    """Checks that a value can be used here, outside a branch or loop."""
    defined_in = getattr(value, "graph", None)
    graph = tf.compat.v1.get_default_graph()
    while defined_in is not None and defined_in is not graph:
        graph = getattr(graph, "outer_graph", None)
        if graph is None:
            raise ValueError(
                "Layers cannot assign a variable inside a branch or a loop "
                "(`keras.ops.cond`, `keras.ops.while_loop`). Return the new "
                "value from it and assign it afterwards. "
                f"Received: variable '{variable.path}'"
            )


@tf.custom_gradient
def _with_gradient_of(current, value):
    """Returns `value`, with the gradient of `before`."""

    def gradient(upstream):
        return upstream, None

    return tf.identity(value), gradient
