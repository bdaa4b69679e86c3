"""Arrangement: which devices of several machines form a pipeline."""

import math

import keras
import tensorflow as tf

from fr_keras.engine.placement import host

_UNKNOWN = 32  # Examples of a batch, and other unknown dimensions.


def arrange_modules(devices, graph, split_points, modules):
    """Orders devices for the modules of a network, as `arrange`.

    Args:
        devices: as for `arrange`.
        graph: `fr_keras.cutting.graph.Graph` of the network.
        split_points: list of K - 1 places of it.
        modules: list of K `keras.Model`s that it was split into.

    Returns:
        As `arrange`.
    """
    replicas = len(devices) // len(modules)
    sent = [
        2 * sum(_bytes(each, replicas) for each in graph.crossing(place))
        for place in split_points
    ]
    exchanged = [
        # A slice to every other copy, and its sum.
        2 * sum(map(_bytes, module.trainable_weights))
        * (replicas - 1) / replicas
        for module in modules
    ]
    return arrange(devices, sent, exchanged)


def arrange(devices, sent, exchanged):
    """Orders devices so that less data crosses from machine to machine.

    Either modules that follow each other are on devices that follow each other,
    or copies of the same module are: the former exchange features and error
    gradients, the latter gradients, in every iteration.

    Args:
        devices: tuple of K r full device names, those of a machine next to each
            other.
        sent: list of K - 1 numbers, as for `bytes_between_machines`.
        exchanged: list of K numbers, as for `bytes_between_machines`.

    Returns:
        Tuple of the same names: those of a pipeline, then those of the next.
    """
    num_modules = len(exchanged)
    replicas = len(devices) // num_modules
    copies_together = tuple(
        devices[k * replicas + i]
        for i in range(replicas) for k in range(num_modules)
    )
    return min(
        (devices, copies_together),
        key=lambda names: bytes_between_machines(names, sent, exchanged),
    )


def bytes_between_machines(devices, sent, exchanged):
    """Counts what crosses from machine to machine in an iteration.

    Args:
        devices: sequence of K r full device names, pipeline by pipeline.
        sent: list of K - 1 numbers, bytes that cross each boundary between
            modules of a pipeline, up and down together.
        exchanged: list of K numbers, bytes of gradients that each copy of a
            module sends to the other ones.

    Returns:
        float.
    """
    num_modules = len(exchanged)
    hosts = list(map(host, devices))
    pipelines = [
        hosts[i : i + num_modules] for i in range(0, len(hosts), num_modules)
    ]
    others = len(pipelines) - 1
    return sum(
        size for of_pipeline in pipelines
        for size, one, other in zip(sent, of_pipeline, of_pipeline[1:])
        if one != other
    ) + sum(
        size / others
        for size, of_copies in zip(exchanged, zip(*pipelines))
        for one in of_copies for other in of_copies if one != other
    )


def _bytes(value, replicas=1):
    """Bytes of the features of a shard, or of weights, which stay whole."""
    if isinstance(value, keras.Variable):
        replicas = 1
    shape = [dimension or _UNKNOWN for dimension in value.shape]
    return math.prod(shape) * tf.as_dtype(value.dtype).size / replicas
