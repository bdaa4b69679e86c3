"""Tables of measurements, in Markdown."""

from trainers.benchmarks import turns
from trainers.command.markdown import table


def schedule(num_modules, tau, rows):
    """Table of the schedules of K modules.

    Args:
        num_modules: int, K.
        tau: float, seconds.
        rows: as returned by `benchmarks.schedule.measure`, back-propagation
            first.

    Returns:
        str.
    """
    _, locked, locked_simulated = rows[0]
    lines = []
    for name, measured, simulated in rows:
        if measured is None:
            lines.append((
                name, "", f"{simulated / tau:.2f}",
                f"({locked_simulated / simulated:.2f})",
            ))
        else:
            in_tau = type(measured)([v / tau for v in measured.values])
            lines.append((
                name, in_tau.text(), f"{simulated / tau:.2f}",
                measured.ratio(locked).text(),
            ))
    return (
        f"K = {num_modules}, forward τ = {tau * 1e3:g} ms, backward 2τ:\n\n"
        + table(
            ("schedule", "τ per iteration", "simulated",
             "speed-up over back-propagation"),
            lines,
        )
    )


def compute(job, num_modules, rows, modules, bounds, predicted, busy):
    """Table of throughputs.

    Args:
        job: `benchmarks.job.Job`.
        num_modules: int, K.
        rows: as returned by `benchmarks.compute.measure`.
        modules: the same.
        bounds: as returned by `benchmarks.compute.bounds`.
        predicted: as returned by `benchmarks.compute.measure`.
        busy: dict from the numbers of modules, from 0, to their busy shares.

    Returns:
        str.
    """
    measured = dict(rows)
    locked = measured["Backprop, K=1, one core"]
    lines = [
        (
            name, f"{job.batch_size / seconds.median:.0f}",
            seconds.text(3), seconds.ratio(locked).text(),
        )
        for name, seconds in rows
    ]
    bound = bounds["features_replay"]
    lines.append((
        "bound of features_replay: each module measured alone",
        f"{job.batch_size / bound.median:.0f}", bound.text(3),
        bound.ratio(bounds["backprop"]).text(),
    ))
    parts = [
        f"ResNet-{job.depth}, {job.batch_size} images of 32x32, "
        f"K = {num_modules}, {job.steps_per_execution} iterations per call:",
        table(
            ("variant", "images/s", "seconds per iteration",
             "speed-up over Backprop, K=1, on one core"),
            lines,
        ),
        table(
            ("module alone on one core", "forward (ms)", "backward (ms)",
             "update (ms)"),
            [
                (str(k), *(
                    type(s)([value * 1e3 for value in s.values]).text(1)
                    for s in (times.forward, times.backward, times.update)
                ))
                for k, times in enumerate(modules, start=1)
            ],
        ),
    ]
    name = f"features_replay, K={num_modules}, a core each"
    if name in measured:
        whole, bare = measured[name], measured[f"{name}, without fit"]
        stock = measured["stock Keras, all cores"]
        stock_one = measured["stock Keras, one core"]
        parts.append(
            f"Features Replay reaches {whole.ratio(bound).text()} of its "
            f"bound, and with `fit` {whole.ratio(bare).text()} of its speed "
            f"without; it is {whole.ratio(stock).text()} times as fast as "
            "stock Keras on all cores. `trainers.plan` predicts "
            f"{predicted:.3f} s, {predicted / whole.median:.2f} of the "
            f"measured time. Backprop is {locked.ratio(stock_one).text()} "
            "times as fast as stock Keras, both on one core. In a call of "
            "Features Replay, modules are busy for "
            f"{', '.join(f'{share:.2f}' for share in busy.values())} of the "
            "time."
        )
    return "\n\n".join(parts)


def tracing(job, found):
    """Table of the time until training starts.

    Args:
        job: `benchmarks.job.Job`.
        found: as returned by `benchmarks.tracing.measure`.

    Returns:
        str.
    """
    return (
        f"ResNet-{job.depth}, {job.batch_size} images of 32x32, "
        f"{job.steps_per_execution} iterations per call, seconds:\n\n"
        + table(
            ("variant", "first call, with tracing", "second call",
             "third call", "all three"),
            [
                (
                    name, *(seconds.text(1) for seconds in calls),
                    turns.Samples([
                        sum(of_round) for of_round in
                        zip(*(seconds.values for seconds in calls))
                    ]).text(1),
                )
                for name, calls in found.items()
            ],
        )
    )


def overhead(job, found):
    """Table of the overhead of iterations.

    Args:
        job: `benchmarks.job.Job`.
        found: as returned by `benchmarks.overhead.measure`.

    Returns:
        str.
    """
    stock = next(iter(found.values()))
    lines = []
    for name, samples in found.items():
        beyond = turns.Samples([
            seconds - of_stock
            for seconds, of_stock in zip(samples.values, stock.values)
        ])
        lines.append((
            name, _in_microseconds(samples),
            "" if samples is stock else _in_microseconds(beyond),
        ))
    return (
        "A dense network 16 units wide, batches of 8, "
        f"{job.steps_per_execution} iterations per call of `fit`, "
        "microseconds per iteration:\n\n"
        + table(("variant", "all", "more than stock Keras"), lines)
    )


def _in_microseconds(samples):
    return turns.Samples([v * 1e6 for v in samples.values]).text(0)


def diagnostics(job, every, found):
    """Table of the cost of diagnostics.

    Args:
        job: `benchmarks.job.Job`.
        every: int, iterations between two probes.
        found: as returned by `benchmarks.diagnostics.measure`.

    Returns:
        str.
    """
    return (
        f"Features Replay, ResNet-{job.depth}, {job.batch_size} images of "
        f"32x32, {job.steps_per_execution} iterations per call, a probe every "
        f"{every} iterations, seconds per iteration:\n\n"
        + table(
            ("K", "without diagnostics", "with", "remaining throughput"),
            [
                (
                    str(num_modules), samples["off"].text(4),
                    samples["on"].text(4),
                    samples["on"].ratio(samples["off"]).text(3),
                )
                for num_modules, samples in found.items()
            ],
        )
    )


def prediction(job, num_modules, found):
    """Table of the cost of weight prediction.

    Args:
        job: `benchmarks.job.Job`.
        num_modules: int, K.
        found: as returned by `benchmarks.prediction.measure`.

    Returns:
        str.
    """
    return (
        f"Features Replay, K = {num_modules}, ResNet-{job.depth}, "
        f"{job.batch_size} images of 32x32, {job.steps_per_execution} "
        "iterations per call, seconds per iteration:\n\n"
        + table(
            (
                "optimizer", "the paper's", "predicted",
                "remaining throughput",
            ),
            [
                (
                    optimizer, samples[False].text(4), samples[True].text(4),
                    samples[True].ratio(samples[False]).text(3),
                )
                for optimizer, samples in found.items()
            ],
        )
    )


def checkpoints(job, num_modules, found):
    """Table of the cost of checkpoints.

    Args:
        job: `benchmarks.job.Job`.
        num_modules: int, K.
        found: as returned by `benchmarks.checkpoints.measure`.

    Returns:
        str.
    """
    none = found["none"][0]
    return (
        f"Features Replay, K = {num_modules}, ResNet-{job.depth}, "
        f"{job.batch_size} images of 32x32, {job.steps_per_execution} "
        "iterations per call:\n\n"
        + table(
            (
                "checkpoints", "in 100 iterations", "seconds per iteration",
                "remaining throughput",
            ),
            [
                (
                    how, found[way][1].text(1), found[way][0].text(4),
                    found[way][0].ratio(none).text(3),
                )
                for way, how in (
                    ("none", "none"),
                    ("background", "one after the other, in the background"),
                    ("waiting", "after each call, which waits"),
                )
            ],
        )
    )


def memory(job, found):
    """Table of memory.

    Args:
        job: `benchmarks.job.Job`.
        found: as returned by `benchmarks.memory.measure`.

    Returns:
        str.
    """
    lines = [
        (
            algorithm, str(num_modules),
            *(
                f"{size / 1e6:.1f}" for size in (
                    memory.peak, memory.parameters, memory.slots, memory.kept,
                    memory.rest, memory.counted,
                )
            ),
            f"{memory.peak / found['backprop', num_modules].peak:.2f}"
            if ("backprop", num_modules) in found else "",
        )
        for (algorithm, num_modules), memory in found.items()
    ]
    return (
        f"ResNet-{job.depth}, {job.batch_size} images of 32x32, one iteration "
        "per call, megabytes (10^6 bytes) of all devices together:\n\n"
        + table(
            ("algorithm", "K", "peak", "parameters", "optimizer",
             "kept between iterations", "activations and other",
             "theory, all modules at once", "peak over Backprop's"),
            lines,
        )
    )
