"""Module times: how long a module's work takes, measured or simulated."""

import dataclasses
import typing


@dataclasses.dataclass
class ModuleTimes:
    """How long a module's work takes on its device.

    Attributes:
        forward: float, seconds of a play, and of a replay, of a mini-batch.
        backward: float, seconds of a backward pass.
        update: float, seconds.
        send_up: float, seconds to send its features to the module above.
        send_down: float, seconds to send its error gradient to the module
            below.
        latency: float, seconds of these until sent data begin to arrive; the
            link is occupied, in that direction, for the rest.
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
