"""Schedules of exact pipelines: what each device does, and in which order."""

from fr_keras.schedules.gpipe import gpipe
from fr_keras.schedules.interleaved import interleaved_1f1b
from fr_keras.schedules.one_forward_one_backward import one_forward_one_backward
from fr_keras.schedules.work import in_flight, in_sequence, needed
from fr_keras.schedules.zero_bubble import zero_bubble_h1, zero_bubble_h2

INTERLEAVED = "interleaved-1f1b"
SCHEDULES = {
    "gpipe": gpipe,
    "1f1b": one_forward_one_backward,
    "zb-h1": zero_bubble_h1,
    "zb-h2": zero_bubble_h2,
    INTERLEAVED: interleaved_1f1b,
}


def order(schedule, num_modules, num_microbatches, num_devices=None):
    """Returns the order in which devices do their work.

    Args:
        schedule: str, one of `SCHEDULES`.
        num_modules: int, K.
        num_microbatches: int, M.
        num_devices: int, D, on which modules take turns, or `None` for K. Only
            an interleaved schedule orders the work of modules on one device.

    Returns:
        List with a list of `Work` for each module, or for each device of an
        interleaved schedule.
    """
    if schedule == INTERLEAVED:
        return interleaved_1f1b(
            num_modules, num_microbatches, num_devices or num_modules
        )
    return SCHEDULES[schedule](num_modules, num_microbatches)


__all__ = [
    "INTERLEAVED", "SCHEDULES", "in_flight", "in_sequence", "needed", "order",
]
