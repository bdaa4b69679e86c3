"""Module times: what the work of a module takes, measured or simulated."""

import dataclasses
import typing


@dataclasses.dataclass
class ModuleTimes:
    """What a module's work takes on its device.

    Attributes:
        forward: float, seconds of a play, and of a replay, of a mini-batch.
        backward: float, seconds of a backward pass.
        update: float, seconds.
        send_up: float, seconds that its features are on the way to the module
            above.
        send_down: float, seconds that its error gradient is on the way to the
            module below.
        latency: float, seconds of these until what is sent begins to arrive;
            for the rest the link is taken, in that direction.
        device: hashable. Modules on equal devices take turns; `None` is a
            device of its own.
    """

    forward: float
    backward: float
    update: float = 0.0
    send_up: float = 0.0
    send_down: float = 0.0
    latency: float = 0.0
    device: typing.Any = None
