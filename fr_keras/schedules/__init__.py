"""Schedules of exact pipelines: what each device does, and in which order."""

from fr_keras.schedules.gpipe import gpipe
from fr_keras.schedules.one_forward_one_backward import one_forward_one_backward
from fr_keras.schedules.work import in_flight, in_sequence, needed
from fr_keras.schedules.zero_bubble import zero_bubble_h1, zero_bubble_h2

SCHEDULES = {
    "gpipe": gpipe,
    "1f1b": one_forward_one_backward,
    "zb-h1": zero_bubble_h1,
    "zb-h2": zero_bubble_h2,
}

__all__ = ["SCHEDULES", "in_flight", "in_sequence", "needed"]
