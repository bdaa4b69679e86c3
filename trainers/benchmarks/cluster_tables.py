"""Tables of measurements of clusters, in Markdown."""

import math

from trainers.command.markdown import table


def on_workers(job, found):
    """Tables that compare workers with one process.

    Args:
        job: `benchmarks.job.Job`.
        found: as returned by `benchmarks.on_workers.measure`.

    Returns:
        str.
    """
    parts = [
        f"Features Replay, ResNet-{job.depth}, {job.batch_size} images of "
        f"32x32, {job.steps_per_execution} iterations per call, one core per "
        "module:",
        table(
            ("K", "one process (images/s)", "K workers (images/s)",
             "relative to one process"),
            [
                (
                    str(k),
                    f"{job.batch_size / of_k.here.median:.0f}",
                    f"{job.batch_size / of_k.there.median:.0f}",
                    of_k.there.ratio(of_k.here).text(),
                )
                for k, of_k in found.items()
            ],
        ),
    ]
    for k, of_k in found.items():
        parts += [
            f"K = {k}: data sent per iteration. Features that cross "
            f"boundaries: {of_k.features / 1e6:.3f} MB, error gradients the "
            "same.",
            table(
                ("from", "to", "MB per iteration"),
                [
                    (*pair, f"{samples.median / 1e6:.4f}")
                    for pair, samples in of_k.sent.items()
                ],
            ),
        ]
    return "\n\n".join(parts)


def layouts(job, num_devices, found):
    """Table of K modules × r replicas.

    Args:
        job: `benchmarks.job.Job`.
        num_devices: int, N.
        found: as returned by `benchmarks.layouts.measure`.

    Returns:
        str.
    """
    links = ", ".join(
        f"{place} {per_second / 1e9:.2f} GB/s and {latency * 1e3:.2f} ms"
        for place, (per_second, latency) in found.links.items()
    )
    return (
        f"ResNet-{job.depth}, {job.batch_size} images of 32x32, "
        f"N = {num_devices} cores, {job.steps_per_execution} iterations per "
        f"call; back-propagation on one core: {found.one.text(3)} s per "
        f"iteration; links: {links}:\n\n"
        + table(
            ("algorithm", "K", "r", "where", "images/s",
             "speed-up over one core", "seconds per iteration", "predicted",
             "predicted / measured"),
            [
                (
                    algorithm, str(num_modules), str(replicas), place,
                    f"{job.batch_size / seconds.median:.0f}",
                    seconds.ratio(found.one).text(), seconds.text(3),
                    found.predicted[key].text(3),
                    seconds.ratio(found.predicted[key]).text(),
                )
                for key, seconds in found.measured.items()
                for algorithm, num_modules, replicas, place in [key]
            ],
        )
    )


def exchanges(num_copies, found):
    """Table of ways to add gradients.

    Args:
        num_copies: int, r.
        found: as returned by `benchmarks.exchanges.measure`.

    Returns:
        str.
    """
    return (
        f"The gradients of r = {num_copies} copies of a module, added:\n\n"
    ) + table(
        ("where", "gradients (MB)", "way", "ms", "relative to slices",
         "same bits in all copies"),
        [
            (
                place, f"{size * 4 / 1e6:.1f}", way,
                type(seconds)([s * 1e3 for s in seconds.values]).text(1),
                of_ways["slices"][0].ratio(seconds).text(),
                "yes" if are_equal else "no",
            )
            for (place, size), of_ways in found.items()
            for way, (seconds, are_equal) in of_ways.items()
        ],
    )


def links(what, found):
    """Table of methods on links of several rates.

    Args:
        what: str, what is trained.
        found: as returned by `benchmarks.links.measure_network`.

    Returns:
        str.
    """
    per_second, latency = found.link
    return (
        f"{what}; links without limits: {per_second * 8 / 1e9:.1f} Gbit/s and "
        f"{latency * 1e3:.2f} ms:\n\n"
    ) + table(
        ("links (Mbit/s)", "method", "seconds per iteration", "predicted",
         "predicted / measured", "times as long as Features Replay",
         "MB over the busiest link"),
        [
            (
                f"{rate / 1e6:.0f}" if math.isfinite(rate) else "unlimited",
                method, seconds.text(3), f"{found.predicted[key]:.3f}",
                f"{found.predicted[key] / seconds.median:.2f}",
                found.measured[rate, "features_replay"].ratio(seconds).text(),
                f"{found.sent[key].median / 1e6:.2f}",
            )
            for key, seconds in found.measured.items()
            for rate, method in [key]
        ],
    )


def recovery(num_modules, seconds):
    """Table of the downtime of a run.

    Args:
        num_modules: int, K.
        seconds: as returned by `benchmarks.recovery.measure`.

    Returns:
        str.
    """
    return (
        f"The digits on {num_modules} workers on loopback, one of which is "
        "killed and restarted immediately:\n\n"
    ) + table(
        ("seconds after the kill", ""),
        [(samples.text(1), what) for what, samples in seconds.items()],
    )
