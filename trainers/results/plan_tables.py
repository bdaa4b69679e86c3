"""Tables of what a planner predicts."""

import typing

from fr_keras import schedules
from fr_keras.replicas.arrangement import arrange, bytes_between_machines
from trainers.command.markdown import table


class Method(typing.NamedTuple):
    """A way to train, as the tables have it.

    Attributes:
        title: str.
        flags: str, of `trainers.train`.
        microbatches: str, the flag of M, or `None` if batches stay whole.
        is_exact: bool, whether its gradients are those of back-propagation.
    """

    title: str
    flags: str
    microbatches: str | None = "num_microbatches"
    is_exact: bool = True


# By the names of `fr_keras.planning.simulation.SCHEDULES`.
METHODS = {
    "features_replay": Method(
        "Features Replay", "--algorithm=features_replay", None, False
    ),
    "features_replay_microbatches": Method(
        "FR in micro-batches", "--algorithm=features_replay",
        "replay_microbatches", False,
    ),
    "ddg": Method("DDG", "--algorithm=ddg", None, False),
    "gpipe": Method("GPipe", "--algorithm=gpipe"),
    "1f1b": Method("1F1B", "--algorithm=pipeline --schedule=1f1b"),
    "zb-h1": Method("ZB-H1", "--algorithm=pipeline --schedule=zb-h1"),
    "zb-h2": Method("ZB-H2", "--algorithm=pipeline --schedule=zb-h2"),
    schedules.INTERLEAVED: Method(
        "interleaved 1F1B",
        f"--algorithm=pipeline --schedule={schedules.INTERLEAVED}",
    ),
    "backprop": Method("back-propagation", "--algorithm=backprop", None),
}
EXACT = tuple(name for name in METHODS if METHODS[name].is_exact)
# (Modules per device of an interleaved schedule.)
TURNS = 2
_MACHINES = ("in one machine", "between machines (MB)")


def plan(predictions, one, batch_size, num_microbatches, methods):
    """Table of predictions.

    Args:
        predictions: dict from K to `fr_keras.planning.planner.Prediction`.
        one: `Prediction` for one device.
        batch_size: int.
        num_microbatches: int, M, of methods with micro-batches.
        methods: names in `METHODS`; memory and links are those of the first.

    Returns:
        str.
    """
    lines = []
    first = methods[0]
    for num_modules, found in predictions.items():
        seconds = found.seconds[first]
        busy = max(max(t.send_up, t.send_down) for t in found.times) / seconds
        lines.append((
            str(num_modules),
            f"{batch_size / seconds:.4g}"
            if _is_possible(first, found, batch_size, 1, num_microbatches)
            else "-",
            *(
                f"{_speed_up(found, one, name):.2f}"
                if _is_possible(name, found, batch_size, 1, num_microbatches)
                else "-"
                for name in methods
            ),
            f"{max(found.memory[first]) / 1e6:.1f}",
            f"{max(found.sent, default=0) / 1e6:.2f}",
            f"{busy:.1%}",
        ))
    return table(
        (
            "K", f"{METHODS[first].title}: examples/s", "speed-up",
            *(f"{METHODS[name].title}'s" for name in methods[1:]),
            "fullest device (MB)", "crosses a boundary (MB)", "busiest link",
        ),
        lines,
    )


def plan_of_devices(
    layouts, batch_size, rate, memory, num_microbatches, methods, num_machines=1
):
    """Table of all ways to use a number of devices, and the fastest.

    Args:
        layouts: dict from `(K, r)` to `fr_keras.planning.planner.Prediction`.
        batch_size: int, examples per iteration of all pipelines together.
        rate: str, the bandwidth of the links in Gbit/s.
        memory: float, bytes of a device, or `None` if unlimited.
        num_microbatches: int, M, of methods with micro-batches.
        methods: as for `plan`.
        num_machines: int, machines that the devices are in, as many in each.

    Returns:
        str.
    """
    # What can be trained at all, and fits.
    possible, rows = [], []
    for (num_modules, replicas), found in layouts.items():
        cells = []
        for name in methods:
            if not _is_possible(
                name, found, batch_size, replicas, num_microbatches
            ):
                cells.append("-")
                continue
            speed = batch_size / found.seconds[name]
            fits = memory is None or max(found.memory[name]) <= memory
            cells.append(_rate(speed) if fits else f"({_rate(speed)})")
            if fits:
                possible.append((speed, name, num_modules, replicas))
        rows.append((
            str(num_modules), str(replicas), *cells,
            f"{max(found.memory[methods[0]]) / 1e6:.1f}",
            f"{max(found.sent, default=0) / 1e6:.2f}",
            f"{max(found.exchanged) / 1e6:.2f}",
            *_between_machines(found, replicas, num_machines),
        ))
    parts = [f"Links of {rate} Gbit/s, examples/s:", table(
        (
            "K", "r", *(METHODS[name].title for name in methods),
            "fullest device (MB)", "crosses a boundary (MB)",
            "a copy sends gradients (MB)", *_MACHINES * (num_machines > 1),
        ),
        rows,
    )]
    if memory is not None:
        parts.append(f"In brackets: needs more than {memory / 1e9:g} GB.")
    if not possible:
        return "\n\n".join([*parts, "Nothing fits."])
    exact = [each for each in possible if each[1] in EXACT]
    for what, ways in (
        ("Fastest", possible if possible != exact else []),
        ("Fastest with exact gradients", exact),
    ):
        if ways:
            parts.append(f"{what}: {_flags(max(ways), num_microbatches)}.")
    return "\n\n".join(parts)


def _flags(way, num_microbatches):
    """Flags of `trainers.train`, and the speed."""
    speed, name, num_modules, replicas = way
    if num_modules == 1:
        name = "backprop"  # All are the same without a pipeline.
    flags = [METHODS[name].flags]
    if METHODS[name].microbatches:
        flags.append(f"--{METHODS[name].microbatches}={num_microbatches}")
    turns = ""
    if name == schedules.INTERLEAVED:
        turns = f" in turns on {num_modules} --devices each"
        num_modules *= TURNS
    return (
        f"{' '.join(flags)} --num_modules={num_modules} "
        f"--replicas={replicas}{turns}, {_rate(speed)} examples/s"
    )


def _is_possible(name, found, *sizes):
    """Whether a method can be used: its modules, and its micro-batches."""
    return name in found.seconds and _divides(name, *sizes)


def _divides(name, batch_size, replicas, num_microbatches):
    """Whether batches can be divided as a method needs it."""
    return METHODS[name].microbatches is None or (
        batch_size % (num_microbatches * replicas) == 0
    )


def _between_machines(found, replicas, num_machines):
    """What stays in a machine, and what crosses between them; cells."""
    if num_machines == 1:
        return ()
    num_modules = len(found.exchanged)
    per_machine = num_modules * replicas // num_machines
    devices = tuple(
        f"/job:worker/task:{machine}/device:CPU:{i}"
        for machine in range(num_machines) for i in range(per_machine)
    )
    best = arrange(devices, found.sent, found.exchanged)
    crossing = bytes_between_machines(best, found.sent, found.exchanged)
    # With one module or one copy, both orders are the same.
    copies = best != devices or num_modules == 1
    return ("copies" if copies else "modules", f"{crossing / 1e6:.2f}")


def plan_of_links(by_link, one, batch_size, num_microbatches, methods):
    """Table of predictions for several bandwidths.

    Args:
        by_link: dict from bandwidths, str in Gbit/s, to predictions as for
            `plan`.
        one: `fr_keras.planning.planner.Prediction` for one device.
        batch_size: int.
        num_microbatches: int, M, of methods with micro-batches.
        methods: as for `plan`; the first is compared with Features Replay in
            micro-batches and an exact one, as far as they are possible.

    Returns:
        str.
    """
    # Each has its own splits.
    slowest = min(by_link, key=float)
    first, *others = [methods[0], *(
        name for name in ("features_replay_microbatches", "zb-h1")
        if name in methods and _divides(name, batch_size, 1, num_microbatches)
    )]
    others = others or ["backprop"]
    of_others = ", ".join(METHODS[name].title for name in others)
    return table(
        (
            "K", f"fullest device at {slowest} Gbit/s (MB)",
            f"crosses a boundary at {slowest} Gbit/s (MB)",
            *(
                f"{METHODS[first].title}: speed-up at {rate} Gbit/s "
                f"({of_others})"
                for rate in by_link
            ),
        ),
        [
            (
                str(num_modules),
                f"{max(found.memory[first]) / 1e6:.0f}",
                f"{max(found.sent, default=0) / 1e6:.1f}",
                *(
                    f"{_speed_up(of_link[num_modules], one, first):.2f} (" +
                    ", ".join(
                        f"{_speed_up(of_link[num_modules], one, name):.2f}"
                        for name in others
                    ) + ")"
                    for of_link in by_link.values()
                ),
            )
            for num_modules, found in by_link[slowest].items()
        ],
    )


def _rate(per_second):
    return f"{per_second:,.0f}" if per_second >= 100 else f"{per_second:.3g}"


def _speed_up(found, one, schedule):
    """Speed-up over back-propagation on one device."""
    return one.seconds["backprop"] / found.seconds[schedule]
