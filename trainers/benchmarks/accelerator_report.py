"""The report on an accelerator: tables for people, JSON for programs."""

import dataclasses
import json
import os
import statistics

import tensorflow as tf

from trainers.benchmarks.accelerator_processes import STOCK
from trainers.benchmarks.turns import Samples
from trainers.command import workdir
from trainers.command.markdown import table


class Report:
    """What was measured until now, written to files at every `save`.

    Args:
        folder: str, --workdir: gets `table.md` and `report.json`.
        conditions: str, under which it was measured.

    Attributes:
        folder: str.
        placements: list as `accelerator.placements` yields.
        rows: list of `accelerator.Row`.
        remarks: list of str, what else there is to say.
    """

    def __init__(self, folder, conditions):
        self.folder = folder
        self._conditions = conditions
        self.placements = []
        self.rows = []
        self.remarks = []

    def save(self):
        """Writes both files, each complete at any time."""
        with workdir.whole_file(
            os.path.join(self.folder, "report.json")
        ) as path, open(path, "w", encoding="utf-8") as file:
            json.dump(self._data(), file, indent=1)
            file.write("\n")
        with workdir.whole_file(
            os.path.join(self.folder, "table.md")
        ) as path, open(path, "w", encoding="utf-8") as file:
            file.write(f"{self.text()}\n\n{self._conditions}\n")

    def text(self):
        """The tables."""
        parts = [f"Devices: {', '.join(devices())}."]
        if self.placements:
            parts.append(_placement_table(self.placements))
        for case in dict.fromkeys(row.case for row in self.rows):
            parts.append(_speed_table(
                case, [row for row in self.rows if row.case == case]
            ))
        return "\n\n".join([*parts, *self.remarks])

    def _data(self):
        return {
            "conditions": self._conditions,
            "devices": devices(),
            "placement": [
                {
                    **dataclasses.asdict(case), "method": method,
                    "num_modules": num_modules, "error": error,
                    "partitions": [
                        partition._asdict() for partition in partitions or ()
                    ],
                }
                for case, method, num_modules, partitions, error
                in self.placements
            ],
            "throughput": [dataclasses.asdict(row) for row in self.rows],
            "remarks": self.remarks,
        }


def devices():
    """The accelerators of this machine, or its CPU, a list of str."""
    return [
        tf.config.experimental.get_device_details(gpu).get(
            "device_name", "an unknown GPU"
        )
        for gpu in tf.config.list_physical_devices("GPU")
    ] or ["no accelerator, logical devices of the CPU"]


def _placement_table(placements):
    rows = []
    for case, method, num_modules, partitions, error in placements:
        if error:
            rows.append([
                case.network, method, str(num_modules), error, *[""] * 5
            ])
            continue
        host, *others = partitions
        steps = case.steps_per_execution
        to_host = sum(p.sent.get(host.device, 0) for p in others)
        between = sum(sum(p.sent.values()) for p in others) - to_host
        rows.append([
            case.network, method, str(num_modules),
            *(
                f"{count / steps:.0f}" for count in (
                    sum(p.num_operations for p in others), host.num_operations,
                )
            ),
            ", ".join(host.misplaced()) or "none",
            *(
                f"{count / steps:.3g}"
                for count in (sum(host.sent.values()), to_host, between)
            ),
        ])
    header = [
        "network", "method", "K", "on devices", "on the host",
        "misplaced there", "host → devices", "devices → host",
        "between devices",
    ]
    return (
        "Operations, and tensors sent, per iteration (partitioned graphs):\n\n"
        + table(header, rows)
    )


def _speed_table(case, rows):
    stock = next((
        Samples(row.seconds) for row in rows
        if row.method == STOCK and row.seconds
    ), None)
    title = (
        f"{case.network}, batches of {case.batch_size}, {case.dtype_policy}"
        f"{', XLA' * case.jit_compile}, {case.steps_per_execution} iterations "
        "per call:"
    )
    return f"{title}\n\n" + table(
        [
            "method", "K", "examples/s", "× stock Keras", "predicted",
            "peak MB per device", "predicted", "host ms per iteration",
        ],
        [_speed_row(case, row, stock) for row in rows],
    )


def _speed_row(case, row, stock):
    name = [row.method, str(row.num_modules)]
    if not row.seconds:
        return [*name, row.error or "not measured: its time is up", *[""] * 5]
    seconds = Samples(row.seconds)
    rates = Samples([case.batch_size / each for each in row.seconds])
    times = ""
    if stock is not None and len(stock.values) == len(row.seconds):
        times = seconds.ratio(stock).text()
    return [
        *name, rates.text(1), times,
        f"{case.batch_size / row.predicted_seconds:.1f}"
        if row.predicted_seconds else "",
        _megabytes(row.peak_bytes and row.peak_bytes.values()),
        _megabytes(row.predicted_bytes),
        f"{statistics.median(row.host_seconds) * 1e3:.2f}",
    ]


def _megabytes(sizes):
    return ", ".join(f"{size / 1e6:.0f}" for size in sizes or ())
