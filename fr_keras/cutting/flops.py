"""Counts the multiply-adds of a traced function from its graph."""

import math

import tensorflow as tf

_CALLS = {
    # Operations that call functions, and how often: a loop's body once per
    # element that it runs over, of several branches the most expensive one.
    "PartitionedCall": ("f",),
    "StatefulPartitionedCall": ("f",),
    "While": ("body",),
    "StatelessWhile": ("body",),
    "If": ("then_branch", "else_branch"),
    "StatelessIf": ("then_branch", "else_branch"),
}


class UnknownWork(ValueError):
    """The work of a function cannot be known beforehand."""


def multiply_adds(function, specs):
    """Counts the multiply-adds of a function without running it.

    Matrix products, convolutions and `einsum` count, in loops and branches
    too; table lookups do not.

    Args:
        function: callable on tensors.
        specs: list of `tf.TensorSpec`, its arguments. Dimensions of unknown
            length count as 1.

    Returns:
        Tuple `(products, written)`: floats, the multiply-adds, and the number
        of elements that these operations and softmaxes write.

    Raises:
        UnknownWork: if there is a loop of unknown length, or a shape of
            unknown rank.
    """
    graph = tf.function(function, autograph=False).get_concrete_function(
        *specs
    ).graph
    definition = graph.as_graph_def(add_shapes=True)
    functions = {f.signature.name: f for f in definition.library.function}
    return _count(definition.node, {}, functions)


def _count(nodes, shapes, functions):
    """Does the same for the nodes of one graph.

    Args:
        nodes: iterable of `NodeDef`.
        shapes: dict from the name of an argument to its shape.
        functions: dict from name to `FunctionDef`.
    """
    shapes = dict(shapes)
    lengths = {}  # Of the lists that loops run over.
    products = written = 0.0
    for node in nodes:
        made = _shapes(node.attr)
        for i, shape in enumerate(made):
            shapes[f"{node.name}:{i}"] = shape
        inputs = [
            _tensor_name(name) for name in node.input if name[0] != "^"
        ]
        if node.op == "TensorListFromTensor":
            lengths[f"{node.name}:0"] = _known(shapes.get(inputs[0]))[0]
        elif node.op in _CALLS:
            times = 1
            if "While" in node.op:
                times = max(
                    (lengths[name] for name in inputs if name in lengths),
                    default=None,
                )
                if times is None:
                    raise UnknownWork(f"the length of loop '{node.name}'")
            counts = [
                _count_function(functions[node.attr[name].func.name], functions)
                for name in _CALLS[node.op]
            ]
            of_call = max(counts)
            products += times * of_call[0]
            written += times * of_call[1]
        elif node.op == "Softmax" or node.op in _TERMS:
            elements = math.prod(_known(made[0]))
            written += elements
            if node.op in _TERMS:
                products += _TERMS[node.op](
                    node, elements, [_known(shapes.get(i)) for i in inputs]
                )
    return products, written


def _count_function(function, functions):
    arguments = {}
    for i, argument in enumerate(function.signature.input_arg):
        for shape in _shapes(function.arg_attr[i].attr):
            arguments[f"{argument.name}:0"] = shape
    return _count(function.node_def, arguments, functions)


def _shapes(attributes):
    """Output shapes: lists of ints, -1 where unknown; `None` for any rank."""
    return [
        None if shape.unknown_rank else [d.size for d in shape.dim]
        for shape in attributes["_output_shapes"].list.shape
    ]


def _known(shape):
    if shape is None:
        raise UnknownWork("the shape of a tensor")
    return [max(1, size) for size in shape]


def _tensor_name(name):
    """Name and index of an input: "a", "a:1", or "a:output:1" in functions."""
    name, *rest = name.split(":")
    return f"{name}:{rest[-1] if rest else 0}"


# The number of multiply-adds of each kind of operation, from its definition,
# the elements of its output, and the shapes of its inputs.


def _of_matmul(node, elements, shapes):
    transposed = node.attr["transpose_a"].b or node.attr["adj_x"].b
    return elements * shapes[0][-2 if transposed else -1]


def _of_einsum(node, elements, shapes):
    terms, output = node.attr["equation"].s.decode().split("->")
    sizes = {}
    for term, shape in zip(terms.split(","), shapes):
        # Dimensions of an ellipsis appear in the output.
        labels = term.split("...")
        for label, size in [
            *zip(labels[0], shape),
            *(zip(reversed(labels[1]), reversed(shape))
              if len(labels) > 1 else ()),
        ]:
            sizes[label] = max(size, sizes.get(label, 1))
    return elements * math.prod(
        size for label, size in sizes.items() if label not in output
    )


def _of_convolution(node, elements, shapes):
    del node
    return elements * math.prod(shapes[1][:-1])


def _of_depthwise_convolution(node, elements, shapes):
    del node
    return elements * math.prod(shapes[1][:-2])


def _of_transposed_convolution(node, elements, shapes):
    del node, elements
    return math.prod(shapes[2]) * math.prod(shapes[1][:-1])


_TERMS = {
    "MatMul": _of_matmul,
    "BatchMatMul": _of_matmul,
    "BatchMatMulV2": _of_matmul,
    "BatchMatMulV3": _of_matmul,
    "Einsum": _of_einsum,
    "Conv2D": _of_convolution,
    "Conv3D": _of_convolution,
    "DepthwiseConv2dNative": _of_depthwise_convolution,
    "Conv2DBackpropInput": _of_transposed_convolution,
    "Conv3DBackpropInputV2": _of_transposed_convolution,
}
