"""Tables of what a planner predicts."""

from fr_keras.replicas.arrangement import arrange, bytes_between_machines
from trainers.command.markdown import table

_MACHINES = ("in one machine", "between machines (MB)")


def plan(predictions, one, batch_size):
    """Table of predictions.

    Args:
        predictions: dict from K to `fr_keras.planning.planner.Prediction`.
        one: `Prediction` for one device.
        batch_size: int.

    Returns:
        str.
    """
    lines = []
    for num_modules, found in predictions.items():
        seconds = found.seconds["features_replay"]
        busy = max(max(t.send_up, t.send_down) for t in found.times) / seconds
        lines.append((
            str(num_modules),
            f"{batch_size / seconds:.4g}",
            *(f"{_speed_up(found, one, name):.2f}" for name in (
                "features_replay", "gpipe", "ddg", "backprop"
            )),
            f"{max(found.memory) / 1e6:.1f}",
            f"{max(found.sent, default=0) / 1e6:.2f}",
            f"{busy:.1%}",
        ))
    return table(
        (
            "K", "examples/s", "speed-up", "GPipe's", "DDG's",
            "back-propagation's", "fullest device (MB)",
            "crosses a boundary (MB)", "busiest link",
        ),
        lines,
    )


def plan_of_devices(layouts, batch_size, rate, memory, num_machines=1):
    """Table of all ways to use a number of devices, and the fastest.

    Args:
        layouts: dict from `(K, r)` to `fr_keras.planning.planner.Prediction`.
        batch_size: int, examples per iteration of all pipelines together.
        rate: str, the bandwidth of the links in Gbit/s.
        memory: float, bytes of a device, or `None` if unlimited.
        num_machines: int, machines that the devices are in, as many in each.

    Returns:
        str.
    """

    def per_second(found, schedule):
        return batch_size / found.seconds[schedule]

    def fits(found):
        return memory is None or max(found.memory) <= memory

    lines = table(
        (
            "K", "r", "Features Replay, examples/s", "GPipe",
            "back-propagation", "fullest device (MB)",
            "crosses a boundary (MB)", "a copy sends gradients (MB)",
            *_MACHINES * (num_machines > 1), "fits",
        ),
        [
            (
                str(num_modules), str(replicas),
                *(
                    _rate(per_second(found, schedule)) for schedule in
                    ("features_replay", "gpipe", "backprop")
                ),
                f"{max(found.memory) / 1e6:.1f}",
                f"{max(found.sent, default=0) / 1e6:.2f}",
                f"{max(found.exchanged) / 1e6:.2f}",
                *_between_machines(found, replicas, num_machines),
                "yes" if fits(found) else "no",
            )
            for (num_modules, replicas), found in layouts.items()
        ],
    )
    possible = {key: found for key, found in layouts.items() if fits(found)}
    if not possible:
        return f"Links of {rate} Gbit/s:\n\n{lines}\n\nNothing fits."
    parts = [f"Links of {rate} Gbit/s:", lines]
    for what, names in (
        ("Fastest", ("backprop", "features_replay")),
        ("Fastest with exact gradients", ("backprop", "gpipe")),
    ):
        speed, name, (num_modules, replicas) = max(
            (per_second(found, name), name, key)
            for key, found in possible.items() for name in names
        )
        if num_modules == 1:
            name = "backprop"  # All are the same without a pipeline.
        parts.append(
            f"{what}: --algorithm={name} --num_modules={num_modules} "
            f"--replicas={replicas}, {_rate(speed)} examples/s."
        )
    return "\n\n".join(parts)


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


def plan_of_links(by_link, one):
    """Table of predictions for several bandwidths.

    Args:
        by_link: dict from bandwidths, str in Gbit/s, to predictions as for
            `plan`.
        one: `fr_keras.planning.planner.Prediction` for one device.

    Returns:
        str.
    """
    # Each has its own splits.
    slowest = min(by_link, key=float)
    return table(
        (
            "K", f"fullest device at {slowest} Gbit/s (MB)",
            f"crosses a boundary at {slowest} Gbit/s (MB)",
            *(f"speed-up at {rate} Gbit/s (GPipe's)" for rate in by_link),
        ),
        [
            (
                str(num_modules),
                f"{max(found.memory) / 1e6:.0f}",
                f"{max(found.sent, default=0) / 1e6:.1f}",
                *(
                    "{:.2f} ({:.2f})".format(*(
                        _speed_up(of_link[num_modules], one, schedule)
                        for schedule in ("features_replay", "gpipe")
                    ))
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
