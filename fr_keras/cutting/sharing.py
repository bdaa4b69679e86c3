"""Shared variables: which layer calls use the same ones, and how."""

import keras
import tensorflow as tf

from fr_keras.engine import layer_variables
from fr_keras.engine.call_scope import CallScope


class Sharing:
    """Finds the variables that several layer calls use.

    A layer may be called more than once, like a tied embedding, and different
    layers may hold the same variable. Weights that are only read may be used
    in several modules: the first one that uses them owns them, and sends their
    values to the others as features. Variables that a call assigns (statistics,
    random numbers) must stay in one module.

    Args:
        nodes: list of Keras nodes, in execution order.

    Attributes:
        tied: list of `Tied`, shared weights that are only read.
        inseparable: list of `(operation, first, last)`, calls that must lie in
            one module, by their numbers.
    """

    def __init__(self, nodes):
        self._held = [
            layer_variables.all_variables(node.operation) for node in nodes
        ]
        holders = {}
        for i, held in enumerate(self._held):
            for variable in held:
                holders.setdefault(id(variable), (variable, []))[1].append(i)
        shared = {
            key for key, (_, calls) in holders.items() if len(calls) > 1
        }
        self._uses = {
            i: _Uses(nodes[i], held) for i, held in enumerate(self._held)
            if any(id(variable) in shared for variable in held)
        }
        self.tied, self.inseparable = [], []
        self._owner = {}
        for key in shared:
            variable, calls = holders[key]
            used = [i for i in calls if self._uses[i].uses(variable)] or calls
            # A variable that is not used at all needs an owner, too.
            self._owner[key] = used[0]
            if any(self._uses[i].assigns(variable) for i in used):
                operation = nodes[used[-1]].operation
                if used[0] < used[-1]:
                    self.inseparable.append((operation, used[0], used[-1]))
            elif used[0] < used[-1]:
                self.tied.append(
                    Tied(variable, nodes[used[0]].operation, used)
                )
        self.tied.sort(key=lambda tied: (tied.calls, tied.variable.path))
        self.inseparable.sort(key=lambda span: span[1:])

    def owned(self, i):
        """Returns the variables that belong to a call."""
        return [
            variable for variable in self._held[i]
            if self._owner.get(id(variable), i) == i
        ]

    def borrowed(self, i):
        """Returns the variables that a call uses, but an earlier one owns."""
        if i not in self._uses:
            return []
        return [
            tied.variable for tied in self.tied if i in tied.calls[1:]
        ]

    def held(self, i):
        """Returns all variables that the operation of a call holds."""
        return self._held[i]


class Tied:
    """Weights that several calls use and none assigns.

    Attributes:
        variable: `keras.Variable`.
        operation: the layer whose call uses it first.
        calls: increasing list of ints, the numbers of the calls.
    """

    def __init__(self, variable, operation, calls):
        self.variable = variable
        self.operation = operation
        self.calls = calls

    def crosses(self, i):
        """Whether its value is needed above place i and owned below it."""
        return self.calls[0] < i <= self.calls[-1]


class _Uses:
    """The variables that a call reads and assigns, found by tracing it.

    Args:
        node: Keras node of the call.
        held: list of the variables that its operation holds.
    """

    def __init__(self, node, held):
        scope = _RecordingScope()
        try:
            _trace(node, scope)
        except Exception:
            # A call that cannot be traced by itself may do anything.
            self._read = self._assigned = {id(variable) for variable in held}
        else:
            self._read = scope.read
            self._assigned = scope.assigned_ids

    def uses(self, variable):
        return id(variable) in self._read | self._assigned

    def assigns(self, variable):
        return id(variable) in self._assigned


class _RecordingScope(CallScope):
    """Also records which variables are read."""

    def __init__(self):
        super().__init__()
        self.read = set()

    def get_current_value(self, variable):
        self.read.add(id(variable))
        return super().get_current_value(variable)


def _trace(node, scope):
    tensors = {id(tensor): tensor for tensor in node.input_tensors}.values()

    def call(*values):
        given = {id(t): value for t, value in zip(tensors, values)}
        args, kwargs = node.arguments.fill_in(given)
        if isinstance(node.operation, keras.layers.Layer):
            kwargs = {**kwargs, "training": True}
        with scope:
            node.operation(*args, **kwargs)

    tf.function(call, autograph=False).get_concrete_function(*(
        tf.TensorSpec(tensor.shape, tensor.dtype) for tensor in tensors
    ))
