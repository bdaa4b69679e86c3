"""Memory: what the devices of each method keep at most."""

import typing

from fr_keras import schedules


class Sizes(typing.NamedTuple):
    """What a module is made of, in bytes.

    Attributes:
        parameters: its weights.
        updates: what its optimizer keeps, and buffers of gradients.
        inputs: its input for a batch, as far as it is used.
        activations: what its backward pass needs of a batch.
        delta: the error gradient of its output for a batch.
    """

    parameters: float
    updates: float
    inputs: float
    activations: float
    delta: float


def of_devices(schedule, sizes, num_microbatches=4, num_devices=None):
    """Estimates the bytes on each device.

    Args:
        schedule: str, one of `fr_keras.planning.simulation.SCHEDULES`.
        sizes: list of K `Sizes`.
        num_microbatches: int, M, of `simulation.MICROBATCHED`. Of the exact
            pipelines, `"gpipe"` recomputes, the others do not.
        num_devices: int, D, on which the modules of an interleaved schedule
            take turns, or `None` for K.

    Returns:
        List of K or D ints: weights, gradients and optimizer; the inputs, error
        gradients and activations that are kept at a time.
    """
    K, D, M = len(sizes), num_devices or len(sizes), num_microbatches
    found = [0.0] * D
    for k, of_module in enumerate(sizes):
        found[k % D] += 2 * of_module.parameters + of_module.updates
        found[k % D] += _kept(schedule, of_module, K - 1 - k, M)
    if schedule in schedules.SCHEDULES and schedule != "gpipe":
        order = schedules.order(schedule, K, M, D)
        activations = [of_module.activations / M for of_module in sizes]
        for d, size in enumerate(schedules.in_flight(order, activations)):
            found[d] += size
    return list(map(int, found))


def _kept(schedule, sizes, delay, M):
    """Bytes that a module keeps of batches, at most.

    Args:
        schedule: as for `of_devices`.
        sizes: `Sizes` of the module.
        delay: int, K - k, how late its gradients are, if they are.
        M: int, the number of micro-batches.

    Returns:
        float; without the activations that exact pipelines keep of several
        micro-batches.
    """
    if schedule in ("features_replay", "synchronous"):
        return delay * sizes.inputs + sizes.delta + sizes.activations
    if schedule == "ddg":
        # Activations, and the weights they were computed with.
        return sizes.activations + sizes.delta + delay * (
            sizes.activations + sizes.parameters
        )
    if schedule == "backprop":
        return sizes.activations + sizes.delta
    # Gradients of a micro-batch, and their sum.
    if schedule == "features_replay_microbatches":
        return (
            sizes.parameters + delay * sizes.inputs + sizes.delta
            + sizes.activations / M
        )
    summed = sizes.parameters + sizes.delta / M
    if schedule == "gpipe":
        return summed + sizes.inputs + sizes.activations / M
    return summed
