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


def of_modules(schedule, sizes, num_microbatches=4):
    """Estimates the bytes on each device.

    Args:
        schedule: str, one of `fr_keras.planning.simulation.SCHEDULES`.
        sizes: list of K `Sizes`.
        num_microbatches: int, M, of `simulation.MICROBATCHED`. Of the exact
            pipelines, `"gpipe"` recomputes, the others do not.

    Returns:
        List of K ints: weights, gradients and optimizer; the inputs, error
        gradients and activations that a module keeps at a time.
    """
    M = num_microbatches
    in_flight = [0] * len(sizes)
    if schedule in schedules.SCHEDULES:
        in_flight = schedules.in_flight(
            schedules.order(schedule, len(sizes), M)
        )
    return [
        int(
            2 * of_module.parameters + of_module.updates
            + _kept(schedule, of_module, len(sizes) - 1 - k, in_flight[k], M)
        )
        for k, of_module in enumerate(sizes)
    ]


def _kept(schedule, sizes, delay, in_flight, M):
    """Bytes that a module keeps of batches, at most.

    Args:
        schedule: as for `of_modules`.
        sizes: `Sizes` of the module.
        delay: int, K - k, how late its gradients are, if they are.
        in_flight: int, the micro-batches between forward and backward pass.
        M: int, the number of micro-batches.
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
    return summed + sizes.activations * in_flight / M
