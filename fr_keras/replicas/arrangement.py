"""Arrangement: which devices of several machines form a pipeline."""

import math

import tensorflow as tf

from fr_keras.engine.placement import host

_UNKNOWN = 32  # Examples of a batch, and other unknown dimensions.


def arrange(devices, graph, split_points, modules):
    """Orders devices so that less data crosses from machine to machine.

    Either modules that follow each other are on devices that follow each other,
    or copies of the same module are: the former exchange features and error
    gradients, the latter gradients, in every iteration.

    Args:
        devices: tuple of K r full device names, those of a machine next to each
            other.
        graph: `fr_keras.cutting.graph.Graph` of the network.
        split_points: list of K - 1 places of it.
        modules: list of K `keras.Model`s that it was split into.

    Returns:
        Tuple of the same names: those of a pipeline, then those of the next.
    """
    num_modules = len(modules)
    replicas = len(devices) // num_modules
    features = [
        sum(map(_bytes, graph.crossing(place))) for place in split_points
    ]
    gradients = [
        sum(map(_bytes, module.trainable_weights)) for module in modules
    ]
    copies_together = tuple(
        devices[k * replicas + i]
        for i in range(replicas) for k in range(num_modules)
    )
    return min(
        (devices, copies_together),
        key=lambda names: bytes_between_machines(names, features, gradients),
    )


def bytes_between_machines(devices, features, gradients):
    """Counts what crosses from machine to machine in an iteration.

    Args:
        devices: sequence of K r full device names, pipeline by pipeline.
        features: list of K - 1 numbers, bytes of the features of a whole batch
            between a module and the next; as many error gradients return.
        gradients: list of K numbers, bytes of the gradients of a module.

    Returns:
        float.
    """
    num_modules = len(gradients)
    hosts = list(map(host, devices))
    pipelines = [
        hosts[i : i + num_modules] for i in range(0, len(hosts), num_modules)
    ]
    sent = sum(
        2 * size / len(pipelines)
        for of_pipeline in pipelines
        for size, one, other in zip(features, of_pipeline, of_pipeline[1:])
        if one != other
    )
    # A slice from each copy to each other one, and its sum.
    return sent + sum(
        2 * size / len(pipelines)
        for size, of_copies in zip(gradients, zip(*pipelines))
        for one in of_copies for other in of_copies if one != other
    )


def _bytes(tensor):
    shape = [dimension or _UNKNOWN for dimension in tensor.shape]
    return math.prod(shape) * tf.as_dtype(tensor.dtype).size
