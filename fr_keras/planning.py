"""Planning: how fast and how large a network would be on K devices."""

import dataclasses
import math

import keras
import numpy as np

from fr_keras import simulation
from fr_keras.algorithms.features_replay import FeaturesReplay
from fr_keras.costs import Cost, total
from fr_keras.graph import Graph, weights
from fr_keras.measurement import measure_calls, measure_modules
from fr_keras.partition import best_cut
from fr_keras.simulation import ModuleTimes


@dataclasses.dataclass(frozen=True)
class Prediction:
    """What is to be expected of K devices like the one that was measured.

    Attributes:
        cut: tuple of ints, for `fr_keras.partition.split`.
        times: list of K `fr_keras.simulation.ModuleTimes`.
        memory: list of K ints, bytes on each device in Features Replay:
            weights, gradients and optimizer, replay queue and error gradient,
            and activations of one backward pass.
        sent: list of K - 1 ints, bytes that cross each boundary in an
            iteration, up and down together.
        seconds: dict from the name of a schedule (`simulation.SCHEDULES`) to
            seconds per iteration.
    """

    cut: tuple
    times: list
    memory: list
    sent: list
    seconds: dict


class Planner:
    """Measures a network on one device; predicts it on several like it.

    The layers are measured one by one (`fr_keras.measure_costs`), and the
    network as a whole, of which the layers' shares are taken.

    Args:
        model: Sequential or Functional `keras.Model`.
        x: nest of tensors or arrays, a batch of data.
        device: str, where to measure; `None` for the first GPU, or else the
            first CPU device.
        optimizer: `keras.optimizers.Optimizer`, or `None` for SGD with
            momentum.

    Raises:
        TypeError: if `model` is neither Sequential nor Functional.
        ValueError: as `fr_keras.measure_costs`.

    Example:

    ```python
    planner = Planner(model, x_train[:128])
    for num_modules in range(1, 17):
        prediction = planner.predict(num_modules, bytes_per_second=10e9 / 8)
        print(num_modules, prediction.seconds["features_replay"])
    ```
    """

    def __init__(self, model, x, device=None, optimizer=None):
        self._model = model
        self._graph = Graph(model)
        self._calls = measure_calls(model, x, device)
        whole = FeaturesReplay(model, 1, device and [device])
        whole.compile(
            optimizer or keras.optimizers.SGD(0.01, momentum=0.9), "mse"
        )
        whole.optimizer.build(whole.trainable_variables)
        (self.whole,) = measure_modules(whole, x)
        self._num_slots = sum(
            math.prod(variable.shape)
            for variable in whole.optimizer.variables
        ) / max(1, whole.count_params())
        self._sizes = {
            i: size for call in self._calls for i, size in call.sizes.items()
        }
        measured = total(call.cost for call in self._calls)
        self._scale = Cost(*(
            # A network without trainable weights has no backward pass.
            whole / parts if parts else 0.0
            for whole, parts in zip(
                (self.whole.forward, self.whole.backward), measured
            )
        ))

    def predict(
        self, num_modules, bytes_per_second=math.inf, latency=0.0,
        steps_per_execution=None,
    ):
        """Predicts K devices.

        Args:
            num_modules: int, K.
            bytes_per_second: float, of the link between neighbours.
            latency: float, seconds until what is sent begins to arrive.
            steps_per_execution: int, as of `compile`; `None` for no end.

        Returns:
            `Prediction`.

        Raises:
            ValueError: if the network cannot be cut into that many modules.
        """
        costs = {}
        for call in self._calls:
            costs.setdefault(call.name, []).append(self._scaled(call))
        cut = best_cut(self._model, num_modules, {
            name: tuple(np.mean(of_calls, 0))
            for name, of_calls in costs.items()
        })
        bounds = [0, *cut, len(self._calls)]
        crossing = [
            sum(self._sizes[id(tensor)] for tensor in self._graph.crossing(i))
            for i in cut
        ]
        travel = [latency + size / bytes_per_second for size in crossing]
        times, memory = [], []
        for k, (start, stop) in enumerate(zip(bounds, bounds[1:])):
            parameters = self._parameter_bytes(start, stop)
            passes = total(map(self._scaled, self._calls[start:stop]))
            times.append(ModuleTimes(
                *passes,
                self.whole.update * parameters
                / max(1, self._parameter_bytes(0, len(self._calls))),
                send_up=travel[k] if k < len(travel) else 0.0,
                send_down=travel[k - 1] if k else 0.0,
            ))
            memory.append(int(
                parameters * (2 + self._num_slots)
                + (num_modules - 1 - k) * self._input_bytes(start, stop)
                + (crossing[k] if k < len(crossing) else 0)
                + self._activation_bytes(start, stop)
            ))
        return Prediction(
            cut, times, memory, [2 * size for size in crossing],
            {
                schedule: simulation.seconds_per_step(
                    schedule, times, steps_per_execution
                )
                for schedule in ("backprop", "gpipe", "features_replay", "ddg")
            },
        )

    def _scaled(self, call):
        return Cost(
            call.cost.forward * self._scale.forward,
            call.cost.backward * self._scale.backward,
        )

    def _parameter_bytes(self, start, stop):
        unique = {
            id(weight): weight
            for node in self._graph.nodes[start:stop]
            for weight in weights(node.operation)
        }
        return sum(
            weight.value.dtype.size * math.prod(weight.shape)
            for weight in unique.values()
        )

    def _input_bytes(self, start, stop):
        """What a module uses of its input; what only passes is not queued."""
        given = (
            keras.tree.flatten(self._graph.input) if start == 0
            else self._graph.crossing(start)
        )
        used = set().union(*(call.sizes for call in self._calls[start:stop]))
        return sum(self._sizes[id(t)] for t in given if id(t) in used)

    def _activation_bytes(self, start, stop):
        calls = self._calls[start:stop]
        kept = set().union(*(call.kept for call in calls))
        return sum(call.own_bytes for call in calls) + sum(
            self._sizes[i] for i in kept
        )
