"""Plots of a comparison, for papers: loss and error against epochs and time."""

import itertools
import os

import matplotlib.figure
import numpy as np
from matplotlib import ticker

from trainers.results import comparison

# Okabe and Ito's colours, safe for colour blindness; lines and markers differ.
_STYLES = {
    "backprop": {"color": "#000000", "linestyle": "-", "marker": "o"},
    "features_replay": {"color": "#0072B2", "linestyle": "-", "marker": "s"},
    "ddg": {"color": "#D55E00", "linestyle": "--", "marker": "^"},
    "dni": {"color": "#009E73", "linestyle": "-.", "marker": "v"},
    "gpipe": {"color": "#CC79A7", "linestyle": ":", "marker": "D"},
    "pipeline": {"color": "#D55E00", "linestyle": "--", "marker": "v"},
}
_ERROR_BARS = 8
_LEGEND_ENTRY = 1.8  # Inches.


def write(workdir, runs, titles):
    """Writes `epochs.png` and `time.png`.

    Args:
        workdir: str, the directory to write to.
        runs: list of `comparison.Run`; the finished ones are drawn.
        titles: as `comparison.titles` returns.
    """
    grouped = comparison.groups(runs)
    for name, label, x_of in (
        ("epochs.png", "epoch", epochs),
        ("time.png", "seconds of training", lambda run: run.seconds()),
    ):
        figure = draw(grouped, label, x_of, titles)
        figure.savefig(os.path.join(workdir, name), dpi=150)


def epochs(run):
    """The numbers of a run's epochs, from 1."""
    return range(1, len(run.history["loss"]) + 1)


def draw(grouped, label, x_of, titles):
    """Draws training loss above test error, a column for each K.

    Args:
        grouped: dict as returned by `comparison.groups`.
        label: str, of the x-axis.
        x_of: function from a run to its x-values.
        titles: as `comparison.titles` returns.

    Returns:
        `matplotlib.figure.Figure`.
    """
    numbers = sorted({num_modules for _, num_modules in grouped})
    width = 1.2 + 3.1 * len(numbers)
    figure = matplotlib.figure.Figure((width, 5.4), layout="constrained")
    axes = figure.subplots(
        2, len(numbers), squeeze=False, sharex="col", sharey="row"
    )
    handles = {}
    for column, num_modules in enumerate(numbers):
        above, below = axes[:, column]
        above.set_title(f"K = {num_modules}")
        below.set_xlabel(label)
        for i, (algorithm, style) in enumerate(_STYLES.items()):
            seeds = [
                run for run in grouped.get((algorithm, num_modules), [])
                if not run.has_diverged()
            ]
            if not seeds:
                continue
            x = np.mean([x_of(run) for run in seeds], 0)
            for axis, y_of in (
                (above, lambda run: run.history["loss"]),
                (below, lambda run: run.test_errors()),
            ):
                handles[algorithm] = _line(
                    axis, x, [y_of(run) for run in seeds], style, i
                )
    for axis, name in zip(axes[:, 0], ("training loss", "test error, %")):
        axis.set_ylabel(name)
    for axis in itertools.chain(*axes):
        axis.set_yscale("log")
        axis.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
        axis.yaxis.set_major_formatter(ticker.FormatStrFormatter("%g"))
        axis.yaxis.set_minor_formatter(ticker.NullFormatter())
        axis.grid(color="0.9", linewidth=0.6)
        axis.set_axisbelow(True)
        axis.spines[["top", "right"]].set_visible(False)
    figure.legend(
        handles.values(), [titles[name] for name in handles],
        loc="outside upper center", frameon=False,
        ncols=min(len(handles), int(width / _LEGEND_ENTRY)),
    )
    return figure


def _line(axis, x, of_seeds, style, i):
    """A line of means, with standard deviations over seeds as error bars."""
    mean = np.mean(of_seeds, 0)
    deviation = np.std(of_seeds, 0, ddof=min(1, len(of_seeds) - 1))
    # At different x-values, so that they do not hide one another.
    every = max(1, len(x) // _ERROR_BARS)
    start = (i * every // len(_STYLES)) % every
    # A logarithmic axis cannot show zero.
    mean[mean <= 0] = np.nan
    lower = np.minimum(deviation, 0.9 * mean)
    return axis.errorbar(
        x, mean, (lower, deviation), errorevery=(start, every),
        markevery=(start, every), markersize=3.5, linewidth=1.2,
        elinewidth=0.8, capsize=2, **style,
    )
