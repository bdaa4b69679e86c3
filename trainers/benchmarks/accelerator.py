"""Accelerators: what runs where, how fast, and in how much memory.

Each part has a time limit and reports what it has after each step, so that a
few minutes on a borrowed machine are enough for a table.
"""

import dataclasses
import itertools
import os
import time

from trainers.benchmarks import accelerator_networks, processes
from trainers.benchmarks import accelerator_processes as in_process
from trainers.benchmarks.accelerator_processes import STOCK, Case

PARTS = ("placement", "throughput", "profile")


@dataclasses.dataclass
class Row:
    """What was measured of one method.

    Attributes:
        case: `Case`.
        method: str, of `fr_keras.ALGORITHMS`, or `STOCK`.
        num_modules: int, K.
        seconds: list of floats, per iteration, one for each round.
        host_seconds: list of floats, per iteration, in which the thread that
            calls the training function computes.
        peak_bytes: dict from devices to ints, or `None` if they do not count.
        predicted_seconds: float, by the planner, or `None`.
        predicted_bytes: list of K ints, by the planner, or `None`.
        error: str, why there is no measurement, or `None`.
    """

    case: Case
    method: str
    num_modules: int
    seconds: list = dataclasses.field(default_factory=list)
    host_seconds: list = dataclasses.field(default_factory=list)
    peak_bytes: dict | None = None
    predicted_seconds: float | None = None
    predicted_bytes: list | None = None
    error: str | None = None


def case(network, batch_size, job):
    """The plainest case of a network.

    Args:
        network: str, one of `accelerator_networks.NETWORKS`.
        batch_size: int, or `None` for the network's own.
        job: `benchmarks.job.Job`, with the numbers of iterations.
    """
    return Case(
        network, batch_size or accelerator_networks.batch_size_of(network),
        job.num_steps, job.steps_per_execution,
    )


def contestants(algorithms, numbers):
    """Pairs of a method and K, stock Keras first."""
    return [(STOCK, 1), *itertools.product(algorithms, numbers)]


def measure(cases, methods, rounds, parts, part_seconds, report, show):
    """Measures the parts of a report, and saves it after each step.

    Args:
        cases: list of `Case`, one for each network.
        methods: as of `contestants`.
        rounds: int.
        parts: list of names of `PARTS`.
        part_seconds: float, the time limit of each part.
        report: `accelerator_report.Report`.
        show: callable that receives a line of progress.
    """
    if "placement" in parts:
        until = time.monotonic() + part_seconds
        for found in placements(cases, methods, until, show):
            report.placements.append(found)
            report.save()
    if "throughput" in parts:
        until = time.monotonic() + part_seconds
        # Networks in turns, the most telling case of each first.
        for variants in zip(*(case.variants() for case in cases)):
            for case in variants:
                rows = throughput(case, methods, rounds, until, show)
                report.rows += rows
                report.save()
                if case in cases and time.monotonic() < until:
                    show(f"predicting {case.network}")
                    try:
                        predict(case, rows, until)
                    except processes.Failed as error:
                        report.remarks.append(
                            f"No predictions for {case.network}: {error}."
                        )
                    report.save()
    if "profile" in parts:
        until = time.monotonic() + part_seconds
        for case in cases:
            show(f"profiling {case.network}")
            folder = os.path.join(report.folder, f"profile_{case.network}")
            report.remarks.append(_profiled(case, methods, folder, until))
            report.save()


def _profiled(case, methods, folder, until):
    """Records a profile, and returns a line about it."""
    num_modules = max(num_modules for _, num_modules in methods)
    try:
        profile(case, num_modules, folder, until)
    except processes.Failed as error:
        return f"No profile of {case.network}: {error}."
    return (
        f"A call of Features Replay, K = {num_modules}, of {case.network} for "
        f"TensorBoard's profiler: {os.path.basename(folder)}/."
    )


def placements(cases, methods, until, show):
    """Finds out what runs where.

    Args:
        cases: list of `Case`.
        methods: as of `contestants`.
        until: float, when to stop, as `time.monotonic()` counts.
        show: callable that receives a line of progress.

    Yields:
        Tuples `(case, method, K, partitions, error)`, the last two a list of
        `partitions.Partition` and `None`, or `None` and str.
    """
    for case, (method, num_modules) in itertools.product(cases, methods):
        if method == STOCK:
            continue
        show(f"placement: {case.network}, {method}, K={num_modules}")
        found = error = None
        try:
            found = processes.once(
                None, in_process.prepare_placement, case, method, num_modules,
                until=until,
            )
        except processes.Failed as failed:
            error = str(failed)
        yield case, method, num_modules, found, error


def throughput(case, methods, rounds, until, show):
    """Measures all methods on one case, in turns.

    Args:
        case: `Case`.
        methods: as of `contestants`.
        rounds: int.
        until: float, when to stop, as `time.monotonic()` counts.
        show: callable that receives a line of progress.

    Returns:
        List of `Row`.
    """
    rows = [Row(case, *method) for method in methods]
    running = {}
    try:
        for i, row in enumerate(rows):
            show(f"preparing {case.network}, {row.method}, K={row.num_modules}")
            try:
                running[i] = processes.Process(
                    None, in_process.prepare, case, row.method, row.num_modules,
                    until=until,
                )
            except processes.Failed as error:
                row.error = str(error)
        for number in range(rounds):
            for i, process in [*running.items()]:
                show(f"{case.network}, {rows[i].method}: round {number + 1}")
                try:
                    _add(rows[i], process())
                except processes.Failed as error:
                    rows[i].error = str(error)
                    del running[i]
    finally:
        for process in running.values():
            process.close()
    return rows


def _add(row, measured):
    seconds, host_seconds, row.peak_bytes = measured
    row.seconds.append(seconds)
    row.host_seconds.append(host_seconds)


def predict(case, rows, until):
    """Adds to rows what the planner predicts of them.

    Args:
        case: `Case`, without XLA.
        rows: list of its `Row`s.
        until: float, when to stop, as `time.monotonic()` counts.
    """
    predictions = processes.once(
        None, in_process.prepare_plan, case,
        sorted({row.num_modules for row in rows}), until=until,
    )
    for row in rows:
        schedule = in_process.SCHEDULES.get(row.method, "backprop")
        if row.method in (*in_process.SCHEDULES, STOCK):
            row.predicted_seconds, row.predicted_bytes = predictions[
                row.num_modules
            ][schedule]


def profile(case, num_modules, folder, until):
    """Records a call of Features Replay for TensorBoard's profiler.

    Args:
        case: `Case`.
        num_modules: int, K.
        folder: str, for the profile.
        until: float, when to stop, as `time.monotonic()` counts.
    """
    processes.once(
        None, in_process.prepare_profile, case, num_modules, folder, until=until
    )
