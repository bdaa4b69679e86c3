"""Split costs: the times and sizes of modules, from those of their layers."""

import math

import keras
import tensorflow as tf

from fr_keras.cutting.costs import Cost, total
from fr_keras.cutting.graph import weights
from fr_keras.planning import memory
from fr_keras.profiling.module_times import ModuleTimes


class SplitCosts:
    """What the modules of any split of a network take.

    With r replicas, modules have a share 1 / r of the examples, and what
    depends on examples is assumed to be in proportion.

    Args:
        graph: `fr_keras.cutting.graph.Graph` of the network.
        calls: list of `fr_keras.profiling.measurement.Call`, of its nodes.
        scale: `Cost`, factors by which the times of the calls are multiplied.
        update: float, seconds of the update of all weights.
        slots_per_parameter: float, numbers that the optimizer keeps for each.
    """

    def __init__(self, graph, calls, scale, update, slots_per_parameter):
        self._graph = graph
        self._calls = calls
        self._scale = scale
        self._update = update
        self._slots_per_parameter = slots_per_parameter
        self._sizes = {
            i: size for call in calls for i, size in call.sizes.items()
        }

    def of_call(self, call):
        """Returns the `Cost` of a call, as a part of the whole network."""
        return Cost(
            call.cost.forward * self._scale.forward,
            call.cost.backward * self._scale.backward,
        )

    def crossing(self, split_points, replicas=1):
        """Returns the bytes of the features at each boundary.

        Args:
            split_points: tuple of ints (`fr_keras.cutting.partition.split`).
            replicas: int, r.

        Returns:
            List of K - 1 numbers.
        """
        return [
            sum(self._size(each, replicas) for each in self._graph.crossing(i))
            for i in split_points
        ]

    def exchanged(self, split_points, replicas=1):
        """Returns the bytes that a copy of each module sends to the others.

        Args:
            split_points: as for `crossing`.
            replicas: int, r.

        Returns:
            List of K ints.
        """
        return [
            2 * (replicas - 1) * self._parameter_bytes(*bounds) // replicas
            for bounds in self._bounds(split_points)
        ]

    def times(self, split_points, link, replicas=1, load=0.0):
        """Returns the times of each module.

        Args:
            split_points: as for `crossing`.
            link: `fr_keras.planning.links.Link`, between any two modules.
            replicas: int, r.
            load: float, the share of a device that is busy while it sends or
                receives.

        Returns:
            List of K `ModuleTimes`.
        """
        travel = list(map(link.travel, self.crossing(split_points, replicas)))
        exchange = map(link.exchange, self.exchanged(split_points, replicas))
        all_parameters = max(1, self._parameter_bytes(0, len(self._calls)))
        return [
            ModuleTimes(
                *(
                    cost / replicas for cost in
                    total(map(self.of_call, self._calls[start:stop]))
                ),
                self._update * self._parameter_bytes(start, stop)
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

    def sizes(self, split_points, replicas=1):
        """Returns what each module is made of.

        Args:
            split_points: as for `crossing`.
            replicas: int, r.

        Returns:
            List of K `fr_keras.planning.memory.Sizes`.
        """
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
                [*self.crossing(split_points, replicas), 0],
            )
        ]

    def _bounds(self, split_points):
        """Pairs of the first call of each module and the one past its last."""
        return zip([0, *split_points], [*split_points, len(self._calls)])

    def _parameter_bytes(self, start, stop):
        unique = {}
        for i in range(start, stop):
            owned = {id(v) for v in self._graph.sharing.owned(i)}
            unique |= {
                id(weight): weight
                for weight in weights(self._graph.nodes[i].operation)
                if id(weight) in owned
            }
        return sum(map(_variable_bytes, unique.values()))

    def _size(self, value, replicas):
        """Bytes of a crossing value: features of a shard, or weights."""
        if isinstance(value, keras.Variable):
            return _variable_bytes(value)
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


def _variable_bytes(variable):
    return tf.as_dtype(variable.dtype).size * math.prod(variable.shape)
