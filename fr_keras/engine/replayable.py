"""Checks that a traced play can be replayed."""

import re

# Operations that draw from TensorFlow's own random state, which cannot be
# restored. Those of `keras.random` are stateless: their state is in variables.
_UNREPEATABLE = re.compile(
    "Random(?!Dataset).*|Multinomial|(Parameterized)?TruncatedNormal"
    "|Stateful(Random|Standard|Truncated|Uniform).*|NonDeterministicInts|Rng.*"
)


# Operations that change state outside `keras.Variable`s; a replay would change
# it again.
_CHANGES = re.compile(
    "Assign(Add|Sub)?VariableOp|ResourceScatter.*|LookupTable(Insert|Import).*"
)


def check(graph, module):
    """Checks that a replay repeats its play and has no side effects.

    Args:
        graph: `tf.Graph` of the play.
        module: `fr_keras.engine.module.Module` that is played.

    Raises:
        ValueError: if random numbers come from anywhere but `keras.random`, or
            layers assign anything but Keras variables.
    """
    definition = graph.as_graph_def()
    inner = [n for f in definition.library.function for n in f.node_def]
    for node in [*definition.node, *inner]:
        if _UNREPEATABLE.fullmatch(node.op):
            raise ValueError(
                "Layers must draw random numbers with keras.random, from a "
                "keras.random.SeedGenerator, so that a replay can repeat those "
                f"of its play. {_received(node, module)}"
            )
    # A play commits its state outside of the layers' functions.
    committed = {id(v.value.handle) for v in module.state.assigned}
    known = {
        internal.op.name for external, internal in graph.captures
        if id(external) in committed
    }
    for node in [*definition.node, *inner]:
        if _CHANGES.fullmatch(node.op) and node.input[0] not in known:
            raise ValueError(
                "State that layers assign in `call` must be a keras.Variable, "
                "for example one created by `add_weight`: a replay would "
                "change a tf.Variable or a lookup table a second time. "
                f"{_received(node, module)}"
            )


def _received(node, module):
    return (
        f"Received: operation '{node.name}' ({node.op}) in module "
        f"'{module.submodel.name}'"
    )
