"""Where an algorithm splits a model, and into how many modules."""

from fr_keras.cutting.partition import check_split_points, find_split_points
from fr_keras.engine import placement
from fr_keras.planning.layouts import choose_layout
from fr_keras.profiling.measurement import measure_costs


def choose_split(
    algorithm, model, num_modules, devices, costs, replicas, split_points
):
    """Chooses what the caller of an algorithm left open.

    Args:
        algorithm: `fr_keras.algorithms.base.Algorithm`, whose `schedule` and
            `pipeline_class` are known.
        model: Sequential or Functional `keras.Model`.
        num_modules: as for `Algorithm`.
        devices: as for `Algorithm`.
        costs: as for `Algorithm`.
        replicas: as for `Algorithm`.
        split_points: as for `Algorithm`.

    Returns:
        Tuple `(split_points, replicas, costs)`: tuple of K - 1 ints; int, r;
        and a dict, or `None` if costs are estimated.

    Raises:
        ValueError: if the model cannot be split so.
        TypeError: if `model` is neither Sequential nor Functional.
    """
    pipeline_class = algorithm.pipeline_class
    if split_points is not None:
        split_points = check_split_points(
            model, split_points, num_modules, pipeline_class.ties_weights
        )
        return split_points, replicas, costs
    if num_modules == "auto":
        _check_auto(algorithm, replicas, costs)
        num_modules, replicas, costs = choose_layout(
            model, devices, algorithm.schedule,
            getattr(algorithm, "num_microbatches", 1),
        )
    elif num_modules is None:
        num_modules = _default_num_modules(devices, replicas)
    if isinstance(costs, str) and costs == "measured":
        costs = measure_costs(model, device=devices[0] if devices else None)
    split_points = find_split_points(
        model, num_modules, costs, ties=pipeline_class.ties_weights,
        replays=pipeline_class.replays,
    )
    return split_points, replicas, costs


def _check_auto(algorithm, replicas, costs):
    """Checks what is passed with `num_modules="auto"`.

    Args:
        algorithm: `fr_keras.algorithms.base.Algorithm`.
        replicas: int, r.
        costs: as for `Algorithm`.

    Raises:
        ValueError: if `replicas` or `costs` is given, which are chosen too, or
            the speed of the method cannot be predicted.
    """
    if replicas != 1 or costs not in (None, "measured"):
        raise ValueError(
            "`replicas` and `costs` must be left out with "
            "`num_modules='auto'`, which chooses `replicas` and measures "
            f"`costs`. Received: replicas={replicas}, costs={costs!r}"
        )
    if algorithm.schedule is None:
        raise ValueError(
            "`num_modules` can be 'auto' for back-propagation, Features "
            "Replay, DDG and exact pipelines only, whose schedules can be "
            "simulated. "
            "Pass a number. "
            f"Received: num_modules='auto' for {type(algorithm).__name__}"
        )


def _default_num_modules(devices, replicas):
    """Returns the number of modules with which every device has one.

    Args:
        devices: as for `fr_keras.engine.placement.assign_devices`.
        replicas: int, r.

    Returns:
        int, K.

    Raises:
        ValueError: if the devices cannot be divided among the pipelines.
    """
    count = placement.default_num_modules(devices)
    if count % replicas:
        raise ValueError(
            "The number of devices must be a multiple of `replicas` to have "
            "one module on each; pass `num_modules` otherwise. "
            f"Received: {count} devices, replicas={replicas}"
        )
    return count // replicas
