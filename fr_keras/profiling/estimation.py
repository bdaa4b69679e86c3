"""Estimation: costs of layers on a device that is not available."""

import keras
import tensorflow as tf

from fr_keras.cutting.costs import Cost, call_cost
from fr_keras.cutting.graph import as_graph
from fr_keras.engine import placement
from fr_keras.engine.features import Features
from fr_keras.engine.functional import submodel
from fr_keras.engine.module import Module
from fr_keras.profiling.measurement import (
    Call,
    copy_to_measure,
    kind_of,
    num_bytes,
    residuals,
)


def estimate_calls(model, batch_size, flops_per_second):
    """Estimates the layer calls of a model without running them.

    A forward pass takes two floating-point operations for each multiply-add
    of `fr_keras.cutting.costs.call_cost`; a backward pass as many for the
    gradient of the input, and as many for that of the weights. The tensors
    kept for a backward pass are found by tracing the layers.

    Args:
        model: Sequential or Functional `keras.Model`, or its
            `fr_keras.cutting.graph.Graph`, in which only the batch size may be
            unknown.
        batch_size: int.
        flops_per_second: float, the speed that the device actually reaches.

    Returns:
        List of `fr_keras.profiling.measurement.Call`, in the order of
        `fr_keras.cutting.graph.Graph(model).nodes`.

    Raises:
        TypeError: if `model` is neither Sequential nor Functional.
        ValueError: if the shape of a tensor is not known, or layers cannot be
            copied.
    """
    graph = as_graph(model)
    depends = set()  # Ids of the tensors that depend on trainable weights.
    estimated, calls = {}, []
    for node in graph.nodes:
        inputs = list({id(t): t for t in node.input_tensors}.values())
        alone = submodel(
            [node], inputs, node.output_tensors, "estimated_layer", batch_size
        )
        specs, made = map(_specs, (alone.inputs, alone.outputs))
        differentiable = [id(tensor) in depends for tensor in inputs]
        kind = kind_of(node, specs, differentiable)
        if kind not in estimated:
            estimated[kind] = _residuals(alone, specs, differentiable)
        own_bytes, kept = estimated[kind]
        forward = call_cost(node).forward * (
            2 * batch_size / flops_per_second
        )
        passes = any(differentiable) + bool(alone.trainable_weights)
        ids = [id(tensor) for tensor in [*inputs, *node.output_tensors]]
        calls.append(Call(
            node.operation.name, Cost(forward, passes * forward), own_bytes,
            {i for i, needed in zip(ids, kept) if needed},
            dict(zip(ids, map(num_bytes, [*specs, *made]))),
        ))
        if passes:
            depends |= {id(tensor) for tensor in node.output_tensors}
    return calls


def _specs(tensors):
    for tensor in tensors:
        if None in tensor.shape:
            raise ValueError(
                "Estimates need a network in which only the batch size is "
                "unknown; set all other dimensions in keras.Input. Received: "
                f"'{tensor.name}' of shape {tensor.shape}"
            )
    return [tf.TensorSpec(tensor.shape, tensor.dtype) for tensor in tensors]


def _residuals(alone, specs, differentiable):
    """Finds what a call keeps for its backward pass, as `residuals` does."""
    (device,) = placement.assign_devices(1, ["CPU:0"])
    with copy_to_measure(alone) as copy:
        module = Module(copy, device)
        module.build(
            [keras.KerasTensor(spec.shape, spec.dtype) for spec in specs],
            differentiable, is_last=True,
        )
        if not module.learns:
            return 0, []
        return residuals(
            module, Features(specs, [None] * len(specs)),
            # Only kernels know the size of their workspaces.
            run=lambda function, x: [
                spec for spec in function.trace(x)[0]
                if spec.shape.is_fully_defined()
            ],
        )
