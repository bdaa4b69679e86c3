"""Planning: speed and memory of a network on K devices."""

import collections
import dataclasses
import math

import keras
import numpy as np
import tensorflow as tf

from fr_keras.cutting.costs import Cost, total
from fr_keras.cutting.graph import Graph, weights
from fr_keras.cutting.partition import find_split_points
from fr_keras.engine import placement
from fr_keras.engine.module import Module
from fr_keras.engine.optimizer_copies import copy_optimizer
from fr_keras.engine.optimizers import ModuleOptimizers
from fr_keras.planning import memory, simulation
from fr_keras.planning.links import Link
from fr_keras.profiling.estimation import estimate_calls
from fr_keras.profiling.measurement import (
    copy_to_measure,
    measure_calls,
    measure_modules,
)
from fr_keras.profiling.module_times import ModuleTimes

# By what share the slowest module of a split may be slower than in the best
# balanced one, where that may pay off.
_TOLERANCES = (0.0, 0.03, 0.1, 0.3, 1.0)


@dataclasses.dataclass(frozen=True)
class Prediction:
    """The predicted behaviour of K identical devices, or of r times as many.

    Attributes:
        split_points: tuple of ints, for `fr_keras.cutting.partition.split`.
        times: list of K `fr_keras.profiling.module_times.ModuleTimes`.
        memory: dict from the name of a schedule to a list of K ints, bytes on
            each device (see `fr_keras.planning.memory`).
        sent: list of K - 1 ints, bytes that cross each boundary per iteration,
            up and down together.
        exchanged: list of K ints, bytes of gradients that each copy of a module
            sends to the others per iteration.
        seconds: dict from the name of a schedule (`simulation.SCHEDULES`) to
            seconds per iteration.
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
        self.batch_size = len(keras.tree.flatten(x)[0])
        optimizer = optimizer or keras.optimizers.SGD(0.01, momentum=0.9)
        self._slots_per_parameter = _slots_per_parameter(optimizer)
        if flops_per_second is None:
            self._calls = measure_calls(self._graph, x, device)
            self.whole = _measure_whole(model, x, device, optimizer)
        else:
            self._calls = estimate_calls(
                self._graph, self.batch_size, flops_per_second
            )
            self.whole = ModuleTimes(*total(c.cost for c in self._calls))
        self._sizes = {
            i: size for call in self._calls for i, size in call.sizes.items()
        }
        parts = total(call.cost for call in self._calls)
        self._scale = Cost(*(
            # A network without trainable weights has no backward pass.
            whole / of_parts if of_parts else 0.0
            for whole, of_parts in zip(
                (self.whole.forward, self.whole.backward), parts
            )
        ))
        costs = collections.defaultdict(list)
        for call in self._calls:
            costs[call.name].append(self._scaled(call))
        self.costs = {
            name: Cost(*map(float, np.mean(of_calls, 0)))
            for name, of_calls in costs.items()
        }

    def predict(
        self, num_modules, bytes_per_second=math.inf, latency=0.0,
        steps_per_execution=None, replicas=1, balanced=False,
        schedules=("backprop", "gpipe", "features_replay", "ddg"),
        num_microbatches=4, load=0.0,
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
            balanced: bool, whether to take the best balanced split, as an
                algorithm does by itself, instead of the fastest.
            schedules: names in `simulation.SCHEDULES`, for `seconds` and
                `memory`.
            num_microbatches: int, M, of `simulation.MICROBATCHED`.
            load: as for `fr_keras.planning.links.Link`.

        Returns:
            `Prediction`, for one of the pipelines.

        Raises:
            ValueError: if the network cannot be split into that many modules.
        """
        link = Link(bytes_per_second, latency, load)

        def seconds(schedule, split_points):
            options = {}
            if schedule in simulation.MICROBATCHED:
                options["num_microbatches"] = num_microbatches
            return simulation.seconds_per_step(
                schedule, self._times(split_points, link, replicas, schedule),
                steps_per_execution, **options,
            )

        links_count = latency or math.isfinite(bytes_per_second)
        may_differ = links_count and not balanced
        candidates = dict.fromkeys(
            find_split_points(self._graph, num_modules, self.costs, tolerance)
            for tolerance in (_TOLERANCES if may_differ else _TOLERANCES[:1])
        )
        split_points = min(
            candidates, key=lambda points: seconds("features_replay", points)
        )
        return Prediction(
            split_points,
            self._times(split_points, link, replicas),
            {
                schedule: memory.of_modules(
                    schedule, self._sizes_of_modules(split_points, replicas),
                    num_microbatches,
                )
                for schedule in schedules
            },
            [2 * int(size) for size in self._crossing(split_points, replicas)],
            self._exchanged(split_points, replicas),
            {
                schedule: seconds(schedule, split_points)
                for schedule in schedules
            },
        )

    def _bounds(self, split_points):
        """Pairs of the first call of each module and the one past its last."""
        return zip([0, *split_points], [*split_points, len(self._calls)])

    def _crossing(self, split_points, replicas):
        """Bytes of the features at each boundary."""
        return [
            sum(self._size(each, replicas) for each in self._graph.crossing(i))
            for i in split_points
        ]

    def _exchanged(self, split_points, replicas):
        """Bytes that each copy of a module sends to the others."""
        return [
            2 * (replicas - 1) * self._parameter_bytes(*bounds) // replicas
            for bounds in self._bounds(split_points)
        ]

    def _times(self, split_points, link, replicas, schedule=None):
        """`ModuleTimes` of each module."""
        travel = list(map(link.travel, self._crossing(split_points, replicas)))
        exchange = map(link.exchange, self._exchanged(split_points, replicas))
        # (Back-propagation: while one device sends, the others are idle.)
        load = 0 if schedule in (None, "backprop") else link.load
        all_parameters = max(1, self._parameter_bytes(0, len(self._calls)))
        return [
            ModuleTimes(
                *(
                    cost / replicas for cost in
                    total(map(self._scaled, self._calls[start:stop]))
                ),
                self.whole.update * self._parameter_bytes(start, stop)
                / all_parameters + exchanging
                # Sent and received, on each side.
                + 2 * load * (send_up + send_down),
                send_up, send_down, link.latency,
            )
            for (start, stop), exchanging, send_up, send_down in zip(
                self._bounds(split_points), exchange, [*travel, 0.0],
                [0.0, *travel],
            )
        ]

    def _sizes_of_modules(self, split_points, replicas):
        """List of the modules' `memory.Sizes`."""
        return [
            memory.Sizes(
                parameters=self._parameter_bytes(start, stop),
                # Besides weights and gradients; with replicas, gradients are
                # also in a buffer.
                updates=self._parameter_bytes(start, stop) * (
                    self._slots_per_parameter + (replicas > 1)
                ),
                inputs=self._input_bytes(start, stop, replicas),
                activations=self._activation_bytes(start, stop) / replicas,
                delta=delta,
            )
            for (start, stop), delta in zip(
                self._bounds(split_points),
                [*self._crossing(split_points, replicas), 0],
            )
        ]

    def _scaled(self, call):
        return Cost(
            call.cost.forward * self._scale.forward,
            call.cost.backward * self._scale.backward,
        )

    def _parameter_bytes(self, start, stop):
        unique = {}
        for i in range(start, stop):
            owned = {id(v) for v in self._graph.sharing.owned(i)}
            unique |= {
                id(weight): weight
                for weight in weights(self._graph.nodes[i].operation)
                if id(weight) in owned
            }
        return sum(map(variable_bytes, unique.values()))

    def _size(self, value, replicas):
        """Bytes of a crossing value: features of a shard, or weights."""
        if isinstance(value, keras.Variable):
            return variable_bytes(value)
        return self._sizes[id(value)] / replicas

    def _input_bytes(self, start, stop, replicas):
        """Bytes of the input that a module uses; the rest is not queued."""
        given = (
            keras.tree.flatten(self._graph.input) if start == 0
            else self._graph.crossing(start)
        )
        used = set().union(*(call.sizes for call in self._calls[start:stop]))
        shared = {
            id(variable) for i in range(start, stop)
            for variable in self._graph.sharing.borrowed(i)
        }
        return sum(
            self._size(t, replicas) for t in given if id(t) in used | shared
        )

    def _activation_bytes(self, start, stop):
        calls = self._calls[start:stop]
        kept = set().union(*(call.kept for call in calls))
        return sum(call.own_bytes for call in calls) + sum(
            self._sizes[i] for i in kept
        )


def variable_bytes(variable):
    """Returns the size of a variable in bytes."""
    return tf.as_dtype(variable.dtype).size * math.prod(variable.shape)


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
