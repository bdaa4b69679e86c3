"""Runs of a comparison, and their tables."""

import contextlib
import csv
import dataclasses
import functools
import json
import os
import statistics

from trainers.command import errors
from trainers.results import plan_tables

_TITLES = {
    "backprop": "back-propagation",
    "ddg": "DDG",
    "dni": "DNI",
    "features_replay": "Features Replay",
    "gpipe": "GPipe",
}


def titles(schedule):
    """The names of the algorithms in tables and plots.

    Args:
        schedule: str, `--schedule`, of all pipelines, or `None`.

    Returns:
        dict from the names of the algorithms.
    """
    name = schedule or "1f1b"  # The default of `Pipeline`.
    return _TITLES | {"pipeline": plan_tables.METHODS[name].title}


@dataclasses.dataclass(frozen=True)
class Run:
    """One run of `trainers.train`.

    Attributes:
        workdir: str, the directory of the comparison.
        algorithm: str, its name.
        num_modules: int, K.
        seed: int.
    """

    workdir: str
    algorithm: str
    num_modules: int
    seed: int

    @property
    def name(self):
        return f"{self.algorithm}_k{self.num_modules}_seed{self.seed}"

    @property
    def path(self):
        """The run's own working directory."""
        return os.path.join(self.workdir, self.name)

    def is_finished(self):
        return os.path.exists(self.path)

    @functools.cached_property
    def results(self):
        """Values of `results.json`, a dict."""
        with self._read("results.json") as file:
            results = json.load(file)
            return {
                name: results[name]
                for name in (
                    "test_accuracy", "test_loss", "seconds_per_epoch",
                    "peak_memory_bytes",
                )
            }

    @functools.cached_property
    def history(self):
        """Loss and test accuracy of each epoch, a dict of lists of float."""
        with self._read("history.csv") as file:
            rows = list(csv.DictReader(file))
            if not rows:
                raise ValueError("no epochs")
            return {
                name: [float(row[name]) for row in rows]
                for name in ("loss", "val_accuracy")
            }

    @contextlib.contextmanager
    def _read(self, name):
        path = os.path.join(self.path, name)
        try:
            with open(path) as file:
                yield file
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise errors.UsageError(
                f"{path} cannot be read ({error}); delete {self.path} to "
                "repeat the run"
            ) from error

    def has_diverged(self):
        return self.results["test_loss"] is None

    def test_errors(self):
        """Percentages, one per epoch."""
        return [100 * (1 - a) for a in self.history["val_accuracy"]]

    def seconds(self):
        """Seconds of training until the end of each epoch.

        Excludes validation, and tracing in the first epoch, which is assumed
        to be as fast as the others.
        """
        return [
            self.results["seconds_per_epoch"] * (epoch + 1)
            for epoch in range(len(self.history["loss"]))
        ]


def groups(runs):
    """Groups finished runs that differ only in the seed.

    Args:
        runs: list of `Run`.

    Returns:
        dict from `(algorithm, num_modules)` to lists of `Run`.
    """
    grouped = {}
    for run in runs:
        if run.is_finished():
            key = run.algorithm, run.num_modules
            grouped.setdefault(key, []).append(run)
    return grouped


def summarize(runs):
    """One row of the table.

    Args:
        runs: list of `Run` that differ only in the seed.

    Returns:
        dict from the names of columns to numbers; those of accuracy, loss and
        time are `None` if all runs have diverged.
    """
    good = [run for run in runs if not run.has_diverged()]
    columns = {
        "final_test_error": [run.test_errors()[-1] for run in good],
        "best_test_error": [min(run.test_errors()) for run in good],
        "training_loss": [run.history["loss"][-1] for run in good],
    }
    row = {"runs": len(runs), "diverged": len(runs) - len(good)}
    for name, values in columns.items():
        row[f"{name}_mean"] = statistics.mean(values) if values else None
        row[f"{name}_std"] = statistics.stdev(values) if values[1:] else None
    seconds = [run.results["seconds_per_epoch"] for run in good]
    row["seconds_per_epoch"] = statistics.median(seconds) if seconds else None
    memory = [run.results["peak_memory_bytes"] for run in good]
    row["peak_memory_megabytes"] = (
        statistics.median(memory) / 1e6 if memory and None not in memory
        else None
    )
    return row


def write_tables(workdir, runs, titles):
    """Writes `table.md` and `table.csv` of the finished runs.

    Args:
        workdir: str, the directory to write to.
        runs: list of `Run`.
        titles: as `titles` returns.
    """
    rows = [
        {"algorithm": algorithm, "num_modules": num_modules} | summarize(seeds)
        for (algorithm, num_modules), seeds in sorted(
            groups(runs).items(), key=lambda item: item[0][1]
        )
    ]
    if not rows:
        return
    with open(os.path.join(workdir, "table.csv"), "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    lines = [
        "| K | algorithm | runs | final test error, % | best test error, % "
        "| training loss | seconds per epoch | peak memory, MB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        diverged = f" ({row['diverged']} diverged)" if row["diverged"] else ""
        lines.append(
            f"| {row['num_modules']} | {titles[row['algorithm']]} "
            f"| {row['runs']}{diverged} "
            f"| {_plus_minus(row, 'final_test_error', 2)} "
            f"| {_plus_minus(row, 'best_test_error', 2)} "
            f"| {_plus_minus(row, 'training_loss', 4)} "
            f"| {_number(row['seconds_per_epoch'], 2)} "
            f"| {_number(row['peak_memory_megabytes'], 0)} |"
        )
    with open(os.path.join(workdir, "table.md"), "w") as file:
        file.write("\n".join(lines) + "\n")


def _plus_minus(row, name, digits):
    mean = _number(row[f"{name}_mean"], digits)
    std = row[f"{name}_std"]
    return mean if std is None else f"{mean} ± {_number(std, digits)}"


def _number(value, digits):
    return "–" if value is None else f"{value:.{digits}f}"
