"""Layouts: N devices as r pipelines of K modules, and the fastest of them."""

import math
import typing

from fr_keras.cutting.graph import Graph
from fr_keras.engine import placement
from fr_keras.planning.links import measure_links
from fr_keras.planning.planner import Planner
from fr_keras.profiling.measurement import random_batch


class Layout(typing.NamedTuple):
    """K modules, r times.

    Attributes:
        num_modules: int, K.
        replicas: int, r.
        costs: dict from layer name to `fr_keras.cutting.costs.Cost`, by which
            the modules are balanced.
    """

    num_modules: int
    replicas: int
    costs: dict


def predict_layouts(
    planner, num_devices, batch_size, bytes_per_second=math.inf, latency=0.0,
    **options,
):
    """Predicts every way to use all of a number of devices.

    Args:
        planner: `fr_keras.planning.planner.Planner`.
        num_devices: int, N.
        batch_size: int, examples per iteration of all pipelines together.
        bytes_per_second: as for `Planner.predict`.
        latency: as for `Planner.predict`.
        **options: as for `Planner.predict`.

    Returns:
        Dict from `(K, r)` to `fr_keras.planning.planner.Prediction`, for all
        K r = N with which every pipeline has an example and every module a
        layer.
    """
    found = {}
    for num_modules in range(1, num_devices + 1):
        replicas, rest = divmod(num_devices, num_modules)
        if rest or replicas > batch_size:
            continue
        try:
            found[num_modules, replicas] = planner.predict(
                num_modules, bytes_per_second, latency, replicas=replicas,
                **options,
            )
        except ValueError:
            break  # There are too few places to split.
    return found


def choose_layout(model, devices, schedule, num_microbatches=1):
    """Measures a network and its devices, and chooses the fastest layout.

    The layers are measured on the first device, with a batch of random numbers
    (`fr_keras.profiling.measurement.random_batch`), and the links between
    devices that follow each other; the slowest counts. CPUs are assumed to be
    busy while they send. Memory does not count, but the whole network must fit
    on the first device.

    Args:
        model: Sequential or Functional `keras.Model`; it is not changed.
        devices: as for `fr_keras.engine.placement.assign_devices`.
        schedule: str, one of `fr_keras.planning.simulation.SCHEDULES`.
        num_microbatches: int, M, of `simulation.MICROBATCHED`.

    Returns:
        `Layout`.

    Raises:
        ValueError: if no layout uses all devices.
    """
    count = placement.default_num_modules(devices)
    names = tuple(dict.fromkeys(
        placement.assign_devices(len(devices or ()) or count, devices)
    ))
    planner = Planner(model, random_batch(Graph(model).input), names[0])
    predictions = predict_layouts(
        planner, count, planner.batch_size, *measure_links(names),
        balanced=True, schedules=(schedule,), num_microbatches=num_microbatches,
        load=float(all("/device:CPU:" in name for name in names)),
    )
    if not predictions:
        raise ValueError(
            "`num_modules` can be 'auto' only if the devices can be divided "
            "into modules of at least a layer, in pipelines of at least an "
            "example each. Pass fewer `devices`. Received: "
            f"{count} devices, batches of {planner.batch_size}"
        )
    num_modules, replicas = min(
        predictions, key=lambda layout: predictions[layout].seconds[schedule]
    )
    return Layout(num_modules, replicas, planner.costs)
