"""Tables and plots of a comparison, made of runs that are written here."""

import csv
import json
import math
import statistics

import matplotlib.image
import pytest

import fr_keras
from trainers.command import errors
from trainers.results import comparison, comparison_plots

SECONDS, BYTES = 2.5, 3_000_000
TITLES = comparison.titles("zb-h1")


def write_run(workdir, algorithm, num_modules, seed, accuracies, losses):
    run = comparison.Run(str(workdir), algorithm, num_modules, seed)
    path = workdir / run.name
    path.mkdir()
    finite = all(map(math.isfinite, losses))
    (path / "results.json").write_text(json.dumps({
        "test_accuracy": accuracies[-1],
        "test_loss": 0.5 if finite else None,
        "seconds_per_epoch": SECONDS + seed,
        "peak_memory_bytes": BYTES * num_modules,
    }))
    lines = ["epoch,loss,val_accuracy"]
    for epoch, values in enumerate(zip(losses, accuracies)):
        lines.append(",".join(map(str, (epoch, *values))))
    (path / "history.csv").write_text("\n".join(lines) + "\n")
    return run


@pytest.fixture
def runs(tmp_path):
    return [
        write_run(tmp_path, "backprop", 2, 0, [0.5, 0.9, 0.8], [3, 2, 1]),
        write_run(tmp_path, "backprop", 2, 1, [0.5, 0.7, 0.95], [3, 2, 0.5]),
        write_run(tmp_path, "backprop", 2, 2, [0.4, 0.6, 0.85], [3, 2, 0.9]),
        write_run(tmp_path, "dni", 2, 0, [0.5, 0.1], [3, math.nan]),
        write_run(tmp_path, "dni", 4, 0, [0.5, 0.25], [3, 2]),
        write_run(tmp_path, "dni", 4, 1, [0.5, 0.1], [3, math.inf]),
        # Not made yet.
        comparison.Run(str(tmp_path), "ddg", 4, 0),
    ]


def table(tmp_path):
    with open(tmp_path / "table.csv") as file:
        return {
            (row["algorithm"], int(row["num_modules"])): row
            for row in csv.DictReader(file)
        }


def test_means_and_deviations(runs, tmp_path):
    comparison.write_tables(str(tmp_path), runs, TITLES)
    rows = table(tmp_path)
    assert list(rows) == [("backprop", 2), ("dni", 2), ("dni", 4)]
    row = rows["backprop", 2]
    for name, values in {
        "final_test_error": [20, 5, 15],
        "best_test_error": [10, 5, 15],
        "training_loss": [1, 0.5, 0.9],
    }.items():
        assert float(row[f"{name}_mean"]) == pytest.approx(
            statistics.mean(values)
        )
        assert float(row[f"{name}_std"]) == pytest.approx(
            statistics.stdev(values)
        )
    assert float(row["seconds_per_epoch"]) == SECONDS + 1
    assert float(row["peak_memory_megabytes"]) == 6
    assert (row["runs"], row["diverged"]) == ("3", "0")


def test_runs_that_diverged_are_counted_apart(runs, tmp_path):
    comparison.write_tables(str(tmp_path), runs, TITLES)
    rows = table(tmp_path)
    none, one = rows["dni", 2], rows["dni", 4]
    assert (none["runs"], none["diverged"]) == ("1", "1")
    assert none["final_test_error_mean"] == none["training_loss_std"] == ""
    assert (one["runs"], one["diverged"]) == ("2", "1")
    assert float(one["final_test_error_mean"]) == 75
    assert one["final_test_error_std"] == ""  # Of one number there is none.


def test_markdown(runs, tmp_path):
    comparison.write_tables(str(tmp_path), runs, TITLES)
    header, _, *rows = (tmp_path / "table.md").read_text().splitlines()
    assert header.startswith("| K | algorithm | runs | final test error, % ")
    assert rows == [
        "| 2 | back-propagation | 3 | 13.33 ± 7.64 | 10.00 ± 5.00 "
        "| 0.8000 ± 0.2646 | 3.50 | 6 |",
        "| 2 | DNI | 1 (1 diverged) | – | – | – | – | – |",
        "| 4 | DNI | 2 (1 diverged) | 75.00 | 50.00 | 2.0000 | 2.50 | 12 |",
    ]


def test_no_runs_no_table(tmp_path):
    comparison.write_tables(
        str(tmp_path), [comparison.Run(str(tmp_path), "ddg", 4, 0)], TITLES
    )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["results.json", "history.csv"])
@pytest.mark.parametrize("text", ["", "{", "a,b\n1,2\n"])
def test_damaged_run(runs, tmp_path, name, text):
    (tmp_path / runs[0].name / name).write_text(text)
    with pytest.raises(errors.UsageError, match=name):
        comparison.write_tables(str(tmp_path), runs, TITLES)


def test_plots(runs, tmp_path):
    comparison_plots.write(str(tmp_path), runs, TITLES)
    for name in ("epochs.png", "time.png"):
        height, width, _ = matplotlib.image.imread(tmp_path / name).shape
        assert width > height > 500


def test_lines_and_error_bars(runs):
    figure = comparison_plots.draw(
        comparison.groups(runs), "epoch", comparison_plots.epochs, TITLES
    )
    (above_2, above_4), (below_2, _) = (
        figure.axes[:2], figure.axes[2:]
    )
    assert [axis.get_title() for axis in (above_2, above_4)] == [
        "K = 2", "K = 4"
    ]
    # Runs that diverged are no lines.
    assert len(above_2.containers) == len(above_4.containers) == 1
    line, _, (bars,) = below_2.containers[0]
    assert list(line.get_xdata()) == [1, 2, 3]
    assert list(line.get_ydata()) == pytest.approx(
        [statistics.mean(e) for e in ((50, 50, 60), (10, 30, 40), (20, 5, 15))]
    )
    (x, low), (_, high) = bars.get_segments()[-1]
    deviation = statistics.stdev([20, 5, 15])
    assert (x, low, high) == pytest.approx(
        (3, 40 / 3 - deviation, 40 / 3 + deviation)
    )


def test_every_algorithm_has_a_title_and_a_style():
    assert (
        {*TITLES} == {*comparison_plots._STYLES}
        == {*fr_keras.ALGORITHMS}
    )


def test_pipelines_are_named_by_their_schedule():
    assert TITLES["pipeline"] == "ZB-H1"


def test_seconds_do_not_count_tracing(runs):
    assert runs[0].seconds() == [SECONDS, 2 * SECONDS, 3 * SECONDS]
