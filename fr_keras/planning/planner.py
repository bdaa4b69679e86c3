"""Planning: speed and memory of a network on K devices."""

import collections
import dataclasses
import functools
import math

import keras
import numpy as np

from fr_keras.cutting.costs import Cost, total
from fr_keras.cutting.graph import Graph
from fr_keras.cutting.partition import find_split_points
from fr_keras.engine import placement
from fr_keras.engine.module import Module
from fr_keras.engine.optimizer_copies import copy_optimizer
from fr_keras.engine.optimizers import ModuleOptimizers
from fr_keras.planning import memory, simulation
from fr_keras.planning.links import Link
from fr_keras.planning.split_costs import SplitCosts
from fr_keras.profiling.estimation import estimate_calls
from fr_keras.profiling.measurement import (
    copy_to_measure,
    measure_calls,
    measure_modules,
)
from fr_keras.profiling.module_times import ModuleTimes
from fr_keras.schedules import INTERLEAVED

# By what share the slowest module of a split may be slower than in the best
# balanced one, where that may pay off.
_TOLERANCES = (0.0, 0.03, 0.1, 0.3, 1.0)


@dataclasses.dataclass(frozen=True)
class Prediction:
    """The predicted behaviour of K identical devices, or of r times as many.

    Each method has splits of its own. What is not keyed by a schedule belongs
    to the first of those that were asked for.

    Attributes:
        split_points: tuple of ints, for `fr_keras.cutting.partition.split`, or
            the argument of an algorithm.
        times: list of K `fr_keras.profiling.module_times.ModuleTimes`.
        memory: dict from the name of a schedule to a list of K ints, bytes on
            each device (see `fr_keras.planning.memory`).
        sent: list of K - 1 ints, bytes that cross each boundary per iteration,
            up and down together.
        exchanged: list of K ints, bytes of gradients that each copy of a module
            sends to the others per iteration.
        seconds: dict from the name of a schedule (`simulation.SCHEDULES`) to
            seconds per iteration.

    `memory` and `seconds` do not have an interleaved schedule where it is
    impossible.
    """

    split_points: tuple
    times: list
    memory: dict
    sent: list
    exchanged: list
    seconds: dict


class Planner:
    """Predicts a network on several devices from its costs on one.

    The layers are measured one by one (`fr_keras.measure_costs`) and scaled to
    the measured time of the whole network. For a device that is not available
    they are estimated from `flops_per_second`; updates then count as zero.

    Args:
        model: Sequential or Functional `keras.Model`.
        x: nest of tensors or arrays, a batch of data.
        device: str, where to measure; `None` for the first GPU or, without a
            GPU, the first CPU device.
        optimizer: `keras.optimizers.Optimizer`, or `None` for SGD with
            momentum.
        flops_per_second: float, floating-point operations that another device
            actually reaches, or `None` to measure.

    Attributes:
        batch_size: int, examples in `x`.
        costs: dict from layer name to `fr_keras.cutting.costs.Cost`, seconds.
        whole: `module_times.ModuleTimes` of the network on one device.

    Raises:
        TypeError: if `model` is neither Sequential nor Functional.
        ValueError: as for `fr_keras.measure_costs`, or, for an estimate, if
            the shape of a tensor is not known.

    Example:

    ```python
    planner = Planner(model, x_train[:128])
    for num_modules in range(1, 17):
        prediction = planner.predict(num_modules, bytes_per_second=10e9 / 8)
        print(num_modules, prediction.seconds["features_replay"])
    ```
    """

    def __init__(
        self, model, x, device=None, optimizer=None, flops_per_second=None
    ):
        self._graph = Graph(model)
        self._most_modules = 1 + len(self._graph.places())
        self.batch_size = len(keras.tree.flatten(x)[0])
        optimizer = optimizer or keras.optimizers.SGD(0.01, momentum=0.9)
        if flops_per_second is None:
            calls = measure_calls(self._graph, x, device)
            self.whole = _measure_whole(model, x, device, optimizer)
        else:
            calls = estimate_calls(
                self._graph, self.batch_size, flops_per_second
            )
            self.whole = ModuleTimes(*total(c.cost for c in calls))
        parts = total(call.cost for call in calls)
        scale = Cost(*(
            # A network without trainable weights has no backward pass.
            whole / of_parts if of_parts else 0.0
            for whole, of_parts in zip(
                (self.whole.forward, self.whole.backward), parts
            )
        ))
        self._split_costs = SplitCosts(
            self._graph, calls, scale, self.whole.update,
            _slots_per_parameter(optimizer),
        )
        costs = collections.defaultdict(list)
        for call in calls:
            costs[call.name].append(self._split_costs.of_call(call))
        self.costs = {
            name: Cost(*map(float, np.mean(of_calls, 0)))
            for name, of_calls in costs.items()
        }

        # Finding the best of many splits takes longer than simulating it.
        self._split = functools.cache(self._find_split)

    def _find_split(self, num_modules, tolerance, replays):
        return find_split_points(
            self._graph, num_modules, self.costs, tolerance, replays=replays
        )

    def predict(
        self, num_modules, bytes_per_second=math.inf, latency=0.0,
        steps_per_execution=None, replicas=1, balanced=False,
        schedules=("features_replay", "ddg", "gpipe", "backprop"),
        num_microbatches=4, load=0.0, modules_per_device=2,
    ):
        """Predicts the network on K devices, or on r times as many.

        If links take time, a split that sends less may be better than the best
        balanced one; the fastest of several is chosen.

        Args:
            num_modules: int, K.
            bytes_per_second: float, of the link between neighbours, in each
                direction.
            latency: float, seconds until sent data begin to arrive.
            steps_per_execution: int, as for `compile`; `None` for unlimited.
            replicas: int, r. The batch is divided among the pipelines, and work
                is assumed to take time in proportion to the examples.
            balanced: bool, whether to take the best balanced splits, as
                algorithms do by themselves, instead of the fastest.
            schedules: names in `simulation.SCHEDULES`.
            num_microbatches: int, M, of `simulation.MICROBATCHED`.
            load: as for `fr_keras.planning.links.Link`.
            modules_per_device: int, of `"interleaved-1f1b"`, which splits the
                network into as many times K modules; it is impossible if there
                are too few places to split, or if M is not a multiple of K.

        Returns:
            `Prediction`, for one of the pipelines.

        Raises:
            ValueError: if the network cannot be split into that many modules,
                or the first of `schedules` is impossible.
        """
        link = Link(bytes_per_second, latency, load)
        links_count = latency or math.isfinite(bytes_per_second)
        tolerances = _TOLERANCES if links_count and not balanced else (0.0,)

        def seconds(schedule, split_points, filling=4):
            options = {"filling": filling}
            if schedule in simulation.MICROBATCHED:
                options["num_microbatches"] = num_microbatches
            times = self._split_costs.times(
                split_points, link, replicas,
                # While one device sends, the others have nothing to do.
                0 if schedule == "backprop" else link.load,
            )
            for k, of_module in enumerate(times):
                of_module.device = k % num_modules
            return simulation.seconds_per_step(
                schedule, times, steps_per_execution, **options
            )

        def split_for(schedule):
            """The fastest of several splits, or `None` if it is impossible."""
            count = num_modules
            if schedule == INTERLEAVED:
                count *= modules_per_device
                if num_microbatches % num_modules or count > self._most_modules:
                    return None
            replays = schedule in simulation.REPLAYING
            candidates = dict.fromkeys(
                self._split(count, tolerance, replays)
                for tolerance in tolerances
            )
            if len(candidates) == 1:
                return next(iter(candidates))
            # (To choose, a short simulation will do.)
            return min(candidates, key=lambda each: seconds(schedule, each, 2))

        splits = {schedule: split_for(schedule) for schedule in schedules}
        first = splits[schedules[0]]
        if first is None:
            raise ValueError(
                f"With schedule={schedules[0]!r}, `num_microbatches` must be a "
                "multiple of the number of devices, and the network must have "
                f"{modules_per_device} modules for each. Received: "
                f"{num_modules} devices, {num_microbatches=}"
            )
        splits = {
            name: points for name, points in splits.items()
            if points is not None
        }
        costs = self._split_costs
        return Prediction(
            first,
            costs.times(first, link, replicas),
            {
                schedule: memory.of_devices(
                    schedule, costs.sizes(points, replicas), num_microbatches,
                    num_modules,
                )
                for schedule, points in splits.items()
            },
            [2 * int(size) for size in costs.crossing(first, replicas)],
            costs.exchanged(first, replicas),
            {
                schedule: seconds(schedule, points)
                for schedule, points in splits.items()
            },
        )


def _measure_whole(model, x, device, optimizer):
    (device,) = placement.assign_devices(1, device and [device])
    optimizer = copy_optimizer(optimizer)  # The original stays fresh.
    if model.dtype_policy.name == "mixed_float16":  # As in `compile`.
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    with copy_to_measure(model) as copy:
        placement.move([copy], device)
        module = Module(copy, device)
        (times,) = measure_modules(
            [module], ModuleOptimizers(optimizer, [[module]]), x
        )
    return times


def _slots_per_parameter(optimizer):
    """How many numbers an optimizer keeps for each parameter it updates."""
    optimizer = optimizer.__class__.from_config(optimizer.get_config())
    weights = keras.Variable(np.zeros([100, 100]))
    optimizer.build([weights])
    return sum(
        math.prod(variable.shape) for variable in optimizer.variables
        if len(variable.shape)  # Scalars are shared by all parameters.
    ) / math.prod(weights.shape)
