"""Every operation of the training graph can run on a GPU.

No GPU is needed to know: TensorFlow's wheel lists the kernels that it has for
each operation, by device and type.
"""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.framework import kernels

import fr_keras

layers = keras.layers
# CPU:0 is the host.
DEVICES = ["CPU:1", "CPU:2"]

# What is done on the host, once per batch: labels are checked before anything
# is changed.
_OF_LABELS = {
    "Assert", "Cast", "Const", "GreaterEqual", "Less", "LogicalAnd", "Max",
    "Min", "SelectV2",
}

# Iterations are counted there, and learning rates computed.
_OF_NUMBERS = {
    "AddN", "AddV2", "AssignVariableOp", "GreaterEqual", "Identity", "Maximum",
    "Mul", "Pow", "ReadVariableOp", "RealDiv", "Sub", "DivNoNan", "NoOp",
}

# Placed by TensorFlow itself, or not computed at all.
_NO_KERNEL_NEEDED = {"NoOp", "Placeholder"}


def mlp():
    return keras.Sequential(
        [keras.Input((6,))] + [
            layer for _ in range(3) for layer in (
                layers.Dense(8), layers.LayerNormalization(),
                layers.Activation("gelu"), layers.Dropout(0.1),
            )
        ] + [layers.Dense(4)]
    )


def mobile_net():
    return keras.applications.MobileNetV3Small(
        input_shape=(32, 32, 3), weights=None, classes=4,
        classifier_activation=None, include_preprocessing=False,
    )


def lstm():
    return keras.Sequential([
        keras.Input((5,), dtype="int32"),
        layers.Embedding(7, 6, mask_zero=True),
        layers.LSTM(6, return_sequences=True), layers.GRU(6),
        layers.Dense(4),
    ])


def u_net():
    image = keras.Input((8, 8, 2))
    wide = layers.Conv2D(4, 3, padding="same", activation="relu")(image)
    deep = layers.MaxPooling2D()(wide)
    deep = layers.Conv2D(8, 3, padding="same")(deep)
    deep = layers.BatchNormalization()(deep)
    up = layers.Conv2DTranspose(4, 2, strides=2)(deep)
    both = layers.Concatenate()([up, wide])
    pooled = layers.GlobalAveragePooling2D()(layers.Conv2D(4, 1)(both))
    return keras.Model(image, layers.Dense(4)(pooled))


MODELS = {
    "resnet": lambda: fr_keras.models.resnet(20, 4, (8, 8, 3)),
    "transformer": lambda: fr_keras.models.transformer(2, 8, 2, 7, 5, 0.1),
    "mlp": mlp,
    "mobile_net": mobile_net,
    "lstm": lstm,
    "u_net": u_net,
}


def nodes_of(graph):
    """All nodes of a graph and of the functions in it."""
    definition = graph.as_graph_def(add_shapes=False)
    yield from definition.node
    for function in definition.library.function:
        yield from function.node_def


@functools.cache
def kernels_of(operation):
    return [
        kernel for kernel in
        kernels.get_registered_kernels_for_op(operation).kernel
        if kernel.device_type in ("GPU", "DEFAULT")
    ]


def runs_on_gpu(node, functions):
    """Whether there is a kernel for the types of a node, or none is needed."""
    if node.op in _NO_KERNEL_NEEDED or node.op in functions:
        return True
    types = {value.type for value in node.attr.values() if value.type}
    if node.op == "Const" and types == {tf.string.as_datatype_enum}:
        return True  # The message of an assertion.
    return any(
        all(
            node.attr[of.name].type in of.allowed_values.list.type
            for of in kernel.constraint
        )
        for kernel in kernels_of(node.op)
    )


def is_on_host(node):
    return node.device.endswith("CPU:0")


def without_kernel(graph):
    """The operations that a GPU has no kernel for, those of the host apart."""
    functions = {
        function.signature.name
        for function in graph.as_graph_def().library.function
    }
    found = set()
    for node in nodes_of(graph):
        if not is_on_host(node) and not runs_on_gpu(node, functions):
            types = {
                tf.as_dtype(value.type).name
                for value in node.attr.values() if value.type
            }
            found.add(f"{node.op}({', '.join(sorted(types))})")
    return sorted(found)


CASES = [
    pytest.param(
        algorithm, model, policy,
        marks=() if algorithm == "features_replay" and policy == "float32"
        and model in ("resnet", "transformer") else pytest.mark.slow,
    )
    for algorithm in fr_keras.ALGORITHMS
    for model in MODELS
    for policy in ("float32", "mixed_bfloat16")
]


@pytest.mark.parametrize("algorithm, model, policy", CASES)
@pytest.mark.quick_cases("features_replay-transformer-float32")
def test_every_operation_has_a_kernel(algorithm, model, policy):
    keras.config.set_dtype_policy(policy)
    try:
        network = MODELS[model]()
        if algorithm == "dni" and model == "lstm":
            pytest.skip("synthesizers know no masks")
        trained = fr_keras.ALGORITHMS[algorithm](network, devices=DEVICES)
        shape = network.input_shape[1:]
        rng = np.random.default_rng(0)
        if network.inputs[0].dtype.startswith("int"):
            x = rng.integers(1, 7, (16, *shape))
        else:
            x = rng.normal(size=(16, *shape)).astype("float32")
        y = rng.integers(0, 4, (16, *network.output_shape[1:-1]))
        trained.compile(
            keras.optimizers.Adam(), keras.losses.SparseCategoricalCrossentropy(
                from_logits=True
            ),
            metrics=["accuracy"], steps_per_execution=4, jit_compile=False,
        )
        trained.fit(x, y, batch_size=4, verbose=0)
    finally:
        keras.config.set_dtype_policy("float32")
    graph = trained.training.graph
    assert without_kernel(graph) == []
    on_host = {node.op for node in nodes_of(graph) if is_on_host(node)}
    assert on_host <= _OF_LABELS | _OF_NUMBERS


def test_a_missing_kernel_is_found():
    """An operation on strings has none, nor has one of a type it lacks."""
    graph = tf.function(
        lambda: tf.strings.length(tf.strings.lower(tf.constant("A")))
    ).get_concrete_function().graph
    assert any(name.startswith("StringLower") for name in without_kernel(graph))
