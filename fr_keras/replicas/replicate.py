"""Makes the modules of all pipelines."""

from fr_keras.cutting.partition import split
from fr_keras.engine.module import Module
from fr_keras.replicas.module_copy import ModuleCopy
from fr_keras.replicas.network_copy import NetworkCopy


def replicate(network, submodels, split_points, devices):
    """Makes r pipelines of K modules.

    Args:
        network: `keras.Model`, the network, or the list of its modules.
        submodels: list of K `keras.layers.Layer`, its parts.
        split_points: as for `fr_keras.cutting.partition.split`, where it was
            split, or `None` if `network` is a list.
        devices: sequence of r K full device names, those of a pipeline after
            those of another.

    Returns:
        Tuple `(modules, copies)`: a list with a list of K
        `fr_keras.engine.module.Module`s for each pipeline, the first of which
        has the network itself, and the list of the r - 1 `NetworkCopy`s.

    Raises:
        ValueError: if a layer cannot be copied.
    """
    count = len(submodels)
    pipelines, copies = [list(map(Module, submodels, devices))], []
    for number in range(1, len(devices) // count):
        copy = NetworkCopy(
            list(network) if split_points is None else [network], number
        )
        copies.append(copy)
        pipelines.append([
            ModuleCopy(submodel, device, original, copy)
            for submodel, device, original in zip(
                copy.parts if split_points is None
                else split(*copy.parts, split_points),
                devices[number * count:], pipelines[0],
            )
        ])
    for module in pipelines[0]:
        module.state.has_copies = bool(copies)
    return pipelines, copies
