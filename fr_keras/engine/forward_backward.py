"""Separate forward and backward passes of a module, linked by residuals."""

import collections
import functools
import types

import tensorflow as tf

from fr_keras.engine import structures


def record(
    module, x, loss_weight=1.0, state=(), ahead=None, share=None
):
    """Runs a forward pass and prepares its backward pass.

    Args:
        module: `fr_keras.engine.module.Module`.
        x: `Features`, the used part of h_{k-1}.
        loss_weight: float, the weight of the losses of the module's layers.
        state: list of tensors, the values of `Module.replayed_state` to use in
            place of the current ones.
        ahead: as for `Module.forward`.
        share: as for `Module.backward`.

    Returns:
        Tuple `(outputs, losses, state_updates, backward)`: the results of
        `Module.forward`, and the callable `backward(delta)`, which takes δ_k as
        `Module.received` returns it, and returns `(gradients, sent)` like
        `Module.backward`.
    """
    with tf.GradientTape() as tape:
        module.watch(tape, x)
        outputs, losses, state_updates = module.forward(
            x, zip(module.replayed_state, state), ahead
        )

    def backward(delta):
        return module.backward(
            tape, x, losses, outputs, delta, loss_weight, share
        )

    return outputs, losses, state_updates, backward


class ForwardBackward:
    """The two passes of a module as separate functions.

    Besides the features, the forward pass returns its *residuals*: the
    activations and the weights of that time that the backward pass needs. From
    stored residuals and an error gradient that arrives later, the backward
    pass computes the gradient at the weights of the forward pass.

    Both are traced into one graph, as for back-propagation, and the graph is
    split in two: the forward part is everything that features, losses and state
    depend on, the backward part is the rest, and residuals are the tensors that
    cross the split. Nothing is computed twice.

    Args:
        module: `fr_keras.engine.module.Module`, built.
        run_eagerly: bool, whether to skip tracing; residuals are then opaque
            objects, not tensors.
        loss_weight: float, the weight of the losses of the module's layers.
        any_length: bool, whether residuals must be the same for sequences of
            any length, since they are stored: layers then do not know how long
            a sequence is until they run, if the network leaves it open.
    """

    def __init__(
        self, module, run_eagerly=False, loss_weight=1.0, any_length=False
    ):
        self._module = module
        self._any_length = any_length
        self._loss_weight = loss_weight
        self._run_eagerly = run_eagerly

    def forward(self, x, share=None, *rates):
        """Runs the forward pass and advances the module's state.

        Unless run eagerly, this must be traced before `backward`.

        Args:
            x: `Features`, the used part of h_{k-1}.
            share: as for `Module.backward`.
            *rates: learning rates for looking ahead, if the module does: see
                `fr_keras.delays.look_ahead.LookAhead.play`.

        Returns:
            Tuple `(outputs, residuals, losses, state)`: `Features`, the part of
            h_k that the module computes; the residuals for `backward`, a list
            of tensors; the losses of the module's layers; and the previous
            state, as `Module.commit` returns it.
        """
        outputs, residuals, losses, state_updates = self.stateless_forward(
            x, (), share, *rates
        )
        return outputs, residuals, losses, self._module.commit(state_updates)

    def stateless_forward(self, x, state=(), share=None, *rates):
        """Runs the forward pass without changing the module's state.

        Args:
            x: as for `forward`.
            state: as for `record`.
            share: as for `Module.backward`.
            *rates: as for `forward`.

        Returns:
            Tuple `(outputs, residuals, losses, state_updates)`, the last for
            `Module.commit`.
        """
        if self._run_eagerly:
            outputs, losses, state_updates, backward = self._record(
                x, state, share, *rates
            )
            return outputs, backward, losses, state_updates
        spec, *others = structures.specs((x, state, share, *rates))
        if self._any_length:
            spec = self._module.open_spec(spec)
        self._split_graph((spec, *others))
        tensors = iter(self._forward(
            structures.flatten((x, state, share, *rates))
        ))
        outputs, losses, new_values = structures.pack(self._results, tensors)
        state_updates = list(zip(self._updated, new_values))
        return outputs, list(tensors), losses, state_updates

    def backward(self, residuals, delta):
        """Runs the backward pass from residuals.

        Args:
            residuals: as returned by `forward`.
            delta: list of tensors, δ_k as `Module.received` returns it.

        Returns:
            Tuple `(gradients, sent)`, like `Module.backward`.
        """
        if self._run_eagerly:
            return residuals(delta)
        return structures.pack(
            self._gradients, self._backward([*residuals, *delta])
        )

    def backward_of_input(self, residuals, delta):
        """Runs the part of the backward pass that the module below waits for.

        Args:
            residuals: as for `backward`.
            delta: as for `backward`.

        Returns:
            Tuple `(kept, sent)`: what `backward_of_weights` needs, a list of
            tensors; and the `ErrorGradient` of the used input.
        """
        if self._run_eagerly:
            return residuals(delta)  # Both at once.
        tensors = iter(self._halves()[0]([*residuals, *delta]))
        sent = structures.pack(self._gradients[1], tensors)
        return list(tensors), sent

    def backward_of_weights(self, kept):
        """Runs the rest of the backward pass; nothing is computed twice.

        Args:
            kept: as returned by `backward_of_input`.

        Returns:
            g_k, a list of tensors.
        """
        if self._run_eagerly:
            return kept
        return structures.pack(self._gradients[0], self._halves()[1](kept))

    def _record(self, x, state, share, *rates):
        ahead = (
            functools.partial(self._module.look_ahead.play, *rates)
            if rates else None
        )
        return record(
            self._module, x, self._loss_weight, state, ahead, share
        )

    def _split_graph(self, spec):
        delta = []

        def both(*tensors):
            outputs, losses, state_updates, backward = self._record(
                *structures.pack(spec, tensors)
            )
            self._updated = [variable for variable, _ in state_updates]
            new_values = [value for _, value in state_updates]
            self._results = outputs, losses, new_values
            # TensorFlow traces twice if Keras creates a variable, such as the
            # seed generator that `keras.utils.set_random_seed` has dropped.
            delta[:] = [
                tf.compat.v1.placeholder(tensor.dtype, tensor.shape)
                for tensor in self._module.differentiated(outputs)
            ]
            self._gradients = backward(delta)
            return structures.flatten((self._results, self._gradients))

        graph = tf.function(both, autograph=False).get_concrete_function(
            *structures.flatten(spec)
        ).graph
        x = graph.inputs[: len(structures.flatten(spec))]
        outputs = structures.flatten(self._results)
        gradients = structures.flatten(self._gradients)
        late = _dependents(delta, _followers(graph))
        # Assertions and prints in layers, on which no output depends.
        effects = [
            op for op in graph.get_operations()
            if op.op_def.is_stateful and op not in late
            and op.type != "ReadVariableOp"
        ]
        forward = _ancestors([*(t.op for t in [*x, *outputs]), *effects])
        backward = _ancestors([tensor.op for tensor in gradients])
        # Store shapes, which are small, rather than the tensors they describe.
        forward |= _ancestors(
            op for op in backward - late
            if any(output.dtype.is_integer for output in op.outputs)
        )
        # Constants are duplicated in both parts rather than stored.
        changing = {
            op for op in graph.get_operations()
            if op.type == "Placeholder" or op.op_def.is_stateful
        }
        changing |= _dependents(t for op in changing for t in op.outputs)
        backward -= forward & changing
        captured = {tensor.op for tensor in graph.internal_captures}
        residuals = _entering(backward, captured, gradients)
        self._forward = _Part(graph, forward, x, [*outputs, *residuals])
        self._backward = _Part(
            graph, backward, [*residuals, *delta], gradients
        )
        # Most methods need only the whole.
        self._halves = functools.cache(functools.partial(
            _halves, graph, backward, changing, captured,
            [*residuals, *delta], *map(structures.flatten, self._gradients),
        ))


def _halves(graph, backward, changing, captured, inputs, of_weights, sent):
    """Splits the backward part into those of input and weights.

    Args:
        graph: `tf.Graph`.
        backward: set of the operations of the backward part.
        changing: set of the operations that are not constant.
        captured: set of the placeholders of captured tensors.
        inputs: list of tensors, the inputs of the backward part.
        of_weights: list of tensors, g_k.
        sent: list of tensors, e_k.

    Returns:
        Tuple of two `_Part`s.
    """
    backward = backward - {tensor.op for tensor in inputs}
    input_ops = _ancestors(tensor.op for tensor in sent) & backward
    weight_ops = _ancestors(tensor.op for tensor in of_weights) & backward
    weight_ops -= input_ops & changing
    kept = _entering(weight_ops, captured, of_weights)
    return (
        _Part(graph, input_ops, inputs, [*sent, *kept]),
        _Part(graph, weight_ops, kept, of_weights),
    )


class _Part:
    """A part of a graph, to be inserted into functions.

    Args:
        graph: `tf.Graph` of a function.
        ops: set of the operations of the part.
        inputs: list of the tensors that the part takes.
        outputs: list of the tensors that it computes.
    """

    def __init__(self, graph, ops, inputs, outputs):
        self._graph = graph
        self._inputs = inputs
        self._outputs = outputs
        whole = graph.as_graph_def()
        names = {op.name for op in ops if op.type != "Placeholder"}
        self._definition = tf.compat.v1.GraphDef(
            node=[node for node in whole.node if node.name in names],
            library=whole.library,
            versions=whole.versions,
        )
        for node in self._definition.node:
            # Drop control inputs from the other part, which runs separately.
            kept = [
                name for name in node.input
                if not name.startswith("^") or name[1:] in names
            ]
            del node.input[:]
            node.input.extend(kept)
            # Drop colocation constraints: all operations are on one device.
            node.attr.pop("_class", None)
        # Nodes omit ":0" in the name of an operation's first output.
        self._used = {
            name if ":" in name else f"{name}:0"
            for node in self._definition.node for name in node.input
        }

    def __call__(self, tensors):
        """Adds the part to the function being traced.

        Args:
            tensors: list of tensors, one for each input.

        Returns:
            List of tensors, the outputs.
        """
        graph = tf.compat.v1.get_default_graph()
        known = {t.name: tensor for t, tensor in zip(self._inputs, tensors)}
        for external, internal in self._graph.captures:
            if internal.name in self._used:
                known[internal.name] = graph.capture(external)
        names = [t.name for t in self._outputs if t.name not in known]
        added = tf.graph_util.import_graph_def(
            self._definition,
            {name: known[name] for name in self._used & set(known)},
            names,
            name="",
        )
        known |= zip(names, added)
        outputs = [known[tensor.name] for tensor in self._outputs]
        for output, tensor in zip(outputs, self._outputs):
            output.set_shape(tensor.shape)
        return outputs


def _entering(ops, captured, results):
    """Returns the tensors that operations and results need from others.

    Args:
        ops: set of operations.
        captured: set of the placeholders of captured tensors, which need not
            be passed.
        results: list of tensors.

    Returns:
        List of tensors, sorted by name.
    """
    found = {
        tensor.ref(): tensor
        for tensor in [t for op in ops for t in op.inputs] + results
        if tensor.op not in ops | captured
    }
    return sorted(found.values(), key=lambda tensor: tensor.name)


def _ancestors(ops):
    """Returns the set of given operations and all that they depend on."""
    return _reachable(
        ops, lambda op: [*(t.op for t in op.inputs), *op.control_inputs]
    )


def _dependents(tensors, followers=types.MappingProxyType({})):
    """Returns the set of operations that depend on given tensors.

    Args:
        tensors: iterable of tensors.
        followers: dict from operations to lists of those that depend on them by
            control edges that are to count, too.
    """

    def next_to(op, outputs):
        consumers = [to for tensor in outputs for to in tensor.consumers()]
        return [*consumers, *followers.get(op, ())]

    return _reachable(
        [to for tensor in tensors for to in next_to(tensor.op, [tensor])],
        lambda op: next_to(op, op.outputs),
    )


def _followers(graph):
    """The control edges of a graph, as for `_dependents`."""
    found = collections.defaultdict(list)
    for op in graph.get_operations():
        for before in op.control_inputs:
            found[before].append(op)
    return found


def _reachable(ops, neighbours):
    found = set()
    waiting = list(ops)
    while waiting:
        op = waiting.pop()
        if op not in found:
            found.add(op)
            waiting.extend(neighbours(op))
    return found
