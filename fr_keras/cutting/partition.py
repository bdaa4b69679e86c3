"""Splits a Keras model into K modules that, chained, equal the model."""

import collections.abc
import itertools
import numbers
import operator
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from fr_keras.cutting.costs import Cost, call_cost, num_plays, warn_if_uneven
from fr_keras.cutting.graph import as_graph
from fr_keras.engine.functional import UpperModule, submodel
from fr_keras.engine.tied import Owner

# Estimated costs that differ by less count as equal: estimates are no better.
_ESTIMATE_TOLERANCE = 0.03


def partition(
    model: keras.Model, num_modules: int,
    costs: Mapping[str, Any] | None = None, replays: bool = True,
) -> list[keras.Model]:
    """Splits a Sequential or Functional model into modules.

    The model can be split anywhere. Skip connections around a module pass
    through it: they are among the module's inputs and, unchanged, among its
    outputs. So are inputs of the model that only a later module needs, and
    outputs that appear early. Nested models are split between their layers,
    like any other. Weights that are used more than once, like those of a tied
    embedding, belong to the first module that uses them, which sends them to
    the others like features; a layer that is used more than once and has
    statistics, random numbers or other state stays in one module. Every module
    has weights of its own.

    Of all such splits of the execution order, the one whose slowest module is
    fastest is chosen. One iteration of Features Replay costs module k < K two
    forward passes and a backward pass (4 forward units), but module K, which
    has nothing to replay, only 3, so the last module gets more layers than the
    others; with `replays=False`, for other methods, all get equal shares. Of
    equally balanced splits (with estimated costs: balanced to 3 %) the one with
    the fewest, then the smallest crossing tensors is chosen.

    The modules share their layers, and so their weights, with `model`.

    Args:
        model: built `keras.Sequential` or Functional `keras.Model` with any
            structure of inputs and outputs.
        num_modules: int, K, at least 1.
        costs: dict from layer name to the cost of the layer's forward pass in
            any unit, or to a pair, forward and backward (twice forward if not
            given), as returned by `fr_keras.measure_costs(model)`; `None` for
            an estimate of multiply-adds per example. A dict must contain every
            layer (operations that are not layers and input layers may be left
            out: they cost 0).
        replays: bool, whether all modules but the last compute their forward
            pass twice, as in Features Replay.

    Returns:
        List of `num_modules` Functional `keras.Model`s. The first takes the
        model's inputs, the last returns the model's outputs, in the model's
        structure; in between, the output of one (a tensor, or a list if several
        cross) is the input of the next.

    Raises:
        ValueError: if the model cannot be split into that many modules.
        TypeError: if `model` is neither Sequential nor Functional.

    Example:

    ```python
    model = keras.applications.MobileNetV3Small(weights=None)
    modules = fr_keras.partition(model, num_modules=4)
    for module in modules:
        x = module(x)
    ```
    """
    return split(
        model, find_split_points(model, num_modules, costs, replays=replays)
    )


def find_split_points(
    model, num_modules, costs=None, tolerance=None, ties=True, replays=True
):
    """Finds where to split.

    Args:
        model: as for `partition`, or its `fr_keras.cutting.graph.Graph`.
        num_modules: as for `partition`.
        costs: as for `partition`.
        tolerance: float, the share of its time by which the slowest module may
            be slower than necessary, so that less crosses; `None` for 0.03 if
            costs are estimated, otherwise 0.
        ties: bool, whether modules may share weights, which then cross.
        replays: as for `partition`.

    Returns:
        Tuple of `num_modules - 1` ints: the numbers of operations below each
        split, for `split`.

    Raises:
        ValueError: as `partition`.
        TypeError: as `partition`.
    """
    if isinstance(num_modules, bool) or not isinstance(
        num_modules, numbers.Integral
    ):
        raise ValueError(
            "`num_modules` must be an integer. "
            f"Received: num_modules={num_modules!r}"
        )
    if num_modules < 1:
        raise ValueError(
            f"`num_modules` must be at least 1. Received: {num_modules=}"
        )
    graph = as_graph(model)
    places = graph.places(ties)
    if num_modules - 1 > len(places):
        raise ValueError(_too_many(num_modules, graph, len(places), ties))
    if not isinstance(costs, (collections.abc.Mapping, type(None))):
        raise ValueError(
            "`costs` must be None or a dict of the costs of layers, such as "
            f"fr_keras.measure_costs(model) returns. Received: {costs=}"
        )
    of_calls = np.array([call_cost(node, costs) for node in graph.nodes])
    if tolerance is None:
        tolerance = _ESTIMATE_TOLERANCE if costs is None else 0.0
    # Rounding errors of another summation order must not matter.
    split_points = _find_split_points(
        graph, of_calls, num_modules, tolerance + 1e-9, ties, replays
    )
    warn_if_uneven(
        [node.operation.name for node in graph.nodes],
        [Cost(*cost) for cost in of_calls], split_points, costs is None,
        replays,
    )
    return split_points


def check_split_points(model, split_points, num_modules=None, ties=True):
    """Checks where a user, or a file, splits a model.

    Args:
        model: as for `find_split_points`.
        split_points: as for `split`.
        num_modules: int, K, or `None` if any number of modules is right.
        ties: as for `find_split_points`.

    Returns:
        `split_points`, a tuple of ints.

    Raises:
        ValueError: if it cannot be split there, or not into K modules.
    """
    graph = as_graph(model)
    may_split = graph.may_split(ties)
    try:
        points = tuple(map(operator.index, split_points))
        bounds = [0, *points, len(graph.nodes)]
        are_possible = all(
            start < stop and may_split[start] and any(
                graph.has_weights[start:stop]
            )
            for start, stop in itertools.pairwise(bounds)
        )
    except (TypeError, IndexError):
        are_possible = False
    if not are_possible:
        raise ValueError(
            "`split_points` must be increasing numbers of operations, such as "
            "fr_keras.cutting.partition.find_split_points returns, where model "
            f"'{graph.name}' can be split into modules that have weights. "
            f"Received: {split_points=}"
        )
    if num_modules not in (None, len(bounds) - 1):
        raise ValueError(
            f"With {len(points)} `split_points`, `num_modules` must be "
            f"{len(bounds) - 1} or None. Received: {num_modules=}"
        )
    return points


def split(model, split_points):
    """Splits a model at given places.

    Args:
        model: as for `find_split_points`.
        split_points: increasing ints, as returned by `find_split_points`.

    Returns:
        List of `len(split_points) + 1` Functional `keras.Model`s, as
        `partition`.
    """
    graph = as_graph(model)
    bounds = [0, *split_points, len(graph.nodes)]
    modules = []
    for k, (start, stop) in enumerate(zip(bounds, bounds[1:]), start=1):
        inputs = graph.input if start == 0 else _single(graph.crossing(start))
        last = stop == len(graph.nodes)
        outputs = graph.output if last else _single(graph.crossing(stop))
        modules.append(
            submodel(
                graph.nodes[start:stop], inputs, outputs,
                f"{graph.name}_module_{k}", owner=Owner(graph, start, stop),
                kind=UpperModule if start else keras.Model,
            )
        )
    return modules


def _single(tensors):
    return tensors[0] if len(tensors) == 1 else tensors


def _too_many(num_modules, graph, num_places, ties):
    message = (
        f"`num_modules` must be at most {num_places + 1} for model "
        f"'{graph.name}', since every module must have weights."
    )
    shared = {layer.name for layer, _, _ in graph.inseparable(ties)}
    if shared:
        message += (
            " A layer that is used more than once and has statistics, random "
            "numbers or other state must stay in one module: "
            f"{', '.join(map(repr, sorted(shared)))}."
        )
    return f"{message} Received: {num_modules=}"


def _find_split_points(
    graph, of_calls, num_modules, tolerance, ties, replays
):
    """Finds the split with the fastest slowest module, then the least crossing.

    Dynamic programming twice over the places i where a module may begin and j
    where it may end: first for the cost of the slowest module, then, with that
    as the limit, for the crossing tensors.
    """
    places = np.flatnonzero(graph.may_split(ties))
    work = np.concatenate([[[0.0, 0.0]], np.cumsum(of_calls, 0)])[places]
    weights = np.concatenate([[0], np.cumsum(graph.has_weights)])[places]
    count, elements = graph.crossing_sizes()
    crossing = (count[places] << 40) + elements[places]
    end = len(places) - 1

    def costs(j, k):
        """Returns the cost per iteration of module k from all i < j up to j."""
        cost = Cost(*(work[j] - work[:j]).T)
        return np.where(
            weights[:j] < weights[j],
            cost.of_iteration(num_plays(k, num_modules, replays)),
            np.inf,
        )

    slowest = np.concatenate([[0.0], np.full(end, np.inf)])
    for k in range(1, num_modules + 1):
        longer = np.full(end + 1, np.inf)
        for j in range(1, end + 1):
            longer[j] = np.maximum(slowest[:j], costs(j, k)).min()
        slowest = longer
    if not np.isfinite(slowest[end]):
        return ()  # K = 1 and no weights at all.
    limit = slowest[end] * (1 + tolerance)

    never = np.iinfo(np.int64).max
    crossed = np.concatenate([[0], np.full(end, never)])
    squares = np.zeros(end + 1)
    choices = []
    for k in range(1, num_modules + 1):
        next_crossed = np.full(end + 1, never)
        next_squares = np.zeros(end + 1)
        choice = np.zeros(end + 1, int)
        for j in range(1, end + 1):
            cost = costs(j, k)
            start = np.flatnonzero((crossed[:j] < never) & (cost <= limit))
            if not len(start):
                continue
            # Of equal crossings, the better balance.
            order = np.lexsort(
                (squares[start] + cost[start] ** 2, crossed[start])
            )
            i = start[order[0]]
            choice[j] = i
            next_crossed[j] = crossed[i] + (crossing[j] if j < end else 0)
            next_squares[j] = squares[i] + cost[i] ** 2
        crossed, squares = next_crossed, next_squares
        choices.append(choice)

    split_points, j = [], end
    for choice in reversed(choices[1:]):
        j = choice[j]
        split_points.append(int(places[j]))
    return tuple(reversed(split_points))
