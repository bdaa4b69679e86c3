"""Tables of what a planner predicts."""

from trainers.command.markdown import table


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


def _speed_up(found, one, schedule):
    """Speed-up over back-propagation on one device."""
    return one.seconds["backprop"] / found.seconds[schedule]
