"""Whether a traced play can be replayed."""

import re

# Operations that draw from a state of TensorFlow's own, which nobody keeps.
# Those of `keras.random` are stateless: Keras keeps their state in variables.
_UNREPEATABLE = re.compile(
    "Random(?!Dataset).*|Multinomial|(Parameterized)?TruncatedNormal"
    "|Stateful(Random|Standard|Truncated|Uniform).*|NonDeterministicInts|Rng.*"
)


def check(graph, submodel):
    """Checks that a replay can draw the random numbers of its play again.

    Args:
        graph: `tf.Graph` of the play.
        submodel: `keras.layers.Layer` that is played.

    Raises:
        ValueError: if random numbers come from anywhere but `keras.random`.
    """
    definition = graph.as_graph_def()
    nodes = [
        *definition.node,
        *(n for f in definition.library.function for n in f.node_def),
    ]
    for node in nodes:
        if _UNREPEATABLE.fullmatch(node.op):
            raise ValueError(
                "A replay must draw the random numbers of its play again: "
                "layers must draw them with keras.random, from a "
                "keras.random.SeedGenerator. Received: operation "
                f"'{node.name}' ({node.op}) in module '{submodel.name}'"
            )
