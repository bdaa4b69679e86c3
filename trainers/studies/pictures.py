"""Plots of a study: losses, and the time until a loss is reached."""

import os

import matplotlib.figure
import numpy as np
from matplotlib import ticker

from trainers.studies.cases import WINDOW
from trainers.studies.methods import METHODS, is_exact
from trainers.studies.tasks import TASKS

# Okabe and Ito's colours, safe for colour blindness; lines differ too.
_STYLES = [
    {"color": color, "linestyle": linestyle}
    for color, linestyle in (
        ("#0072B2", "-"), ("#D55E00", "--"), ("#009E73", "-."),
        ("#CC79A7", ":"), ("#56B4E9", "-"), ("#E69F00", "--"),
    )
]
_DRAWN = ("paper", "default", "default_clipped")
_EXACT = {"color": "#000000", "linestyle": "-"}
_IDEAL = {"color": "#000000", "linestyle": ":"}


def write(folder, found):
    """Draws `TASK.png` for each task, and `time_to_loss.png`.

    Args:
        folder: str, the directory to write to.
        found: list of dicts, as returned by `cases.Case.results`.
    """
    for task in dict.fromkeys(results["task"] for results in found):
        cases = {
            (r["optimizer"], r["method"], r["num_modules"]): r
            for r in found if r["task"] == task
        }
        losses(task, cases).savefig(
            os.path.join(folder, f"{task}.png"), dpi=120
        )
    figure = time_to_loss(found)
    if figure is not None:
        figure.savefig(os.path.join(folder, "time_to_loss.png"), dpi=120)


def losses(task, cases):
    """Plots training loss against iterations, a row for each optimizer.

    Args:
        task: str.
        cases: dict from `(optimizer, method, K)` to results.

    Returns:
        `matplotlib.figure.Figure`.
    """
    optimizers = sorted({optimizer for optimizer, _, _ in cases})
    numbers = sorted({k for _, m, k in cases if not is_exact(m)}) or [1]
    figure = matplotlib.figure.Figure(
        (1.6 + 2.7 * len(numbers), 0.9 + 2.3 * len(optimizers)),
        layout="constrained",
    )
    axes = figure.subplots(
        len(optimizers), len(numbers), squeeze=False, sharex=True,
        sharey="row",
    )
    figure.suptitle(TASKS[task].title)
    for row, optimizer in zip(axes, optimizers):
        row[0].set_ylabel(f"{optimizer}\ntraining loss")
        for ax, k in zip(row, numbers):
            ax.set_title(f"K = {k}", fontsize="medium")
            ax.grid(alpha=0.3)
            of_k = {"backprop": cases.get((optimizer, "backprop", 1))} | {
                method: cases.get((optimizer, method, k)) for method in _DRAWN
            }
            for (method, results), style in zip(
                of_k.items(), [_EXACT, *_STYLES]
            ):
                if results is None:
                    continue
                loss = curve(results)
                ax.plot(
                    WINDOW * (np.arange(len(loss)) + 0.5), loss,
                    label=METHODS[method].title, lw=1.2, **style,
                )
    for ax in axes[-1]:
        ax.set_xlabel("iteration")
    _legend(figure, axes.flat)
    return figure


def curve(results):
    """Returns the mean training loss over the runs that did not diverge.

    Args:
        results: dict, as returned by `cases.Case.results`.

    Returns:
        Array with a loss for every `WINDOW` iterations.
    """
    curves = np.array(results["losses"], float)  # `None` becomes NaN.
    good = curves[np.isfinite(curves).all(1)]
    return good.mean(0) if len(good) else np.full(curves.shape[1], np.nan)


def time_to_loss(found):
    """Plots the time until a loss is reached, on K hypothetical devices.

    The unit is a forward pass of the whole network on one device, Kτ, with τ
    that of a module; a backward pass takes two. Per iteration,
    back-propagation takes 3 Kτ, Features Replay 4τ, and an ideal exact
    pipeline of M micro-batches 3τ + τ (K − 1) / M (ZB-H1 of
    https://arxiv.org/abs/2401.10241). The loss is the one that
    back-propagation reaches after `TARGET` of its iterations.

    Args:
        found: list of dicts, as returned by `cases.Case.results`.

    Returns:
        `matplotlib.figure.Figure`, with axes for each task and optimizer, or
        `None` if there is nothing to compare.
    """
    groups = {}
    for results in found:
        group = groups.setdefault((results["task"], results["optimizer"]), {})
        group[results["method"], results["num_modules"]] = results
    groups = {
        key: group for key, group in groups.items()
        if ("backprop", 1) in group and len(group) > 1
    }
    if not groups:
        return None
    tasks, optimizers = (list(dict.fromkeys(of)) for of in zip(*groups))
    figure = matplotlib.figure.Figure(
        (1.6 + 3 * len(optimizers), 0.9 + 2.3 * len(tasks)),
        layout="constrained",
    )
    axes = figure.subplots(len(tasks), len(optimizers), squeeze=False)
    for row, task in zip(axes, tasks):
        row[0].set_ylabel(f"{TASKS[task].title}\ntime to loss, Kτ", size=8)
        for ax, optimizer in zip(row, optimizers):
            ax.set_title(optimizer, fontsize="medium")
            ax.grid(alpha=0.3)
            if (task, optimizer) in groups:
                _draw_times(ax, groups[task, optimizer])
            else:
                ax.set_visible(False)
    for ax in axes[-1]:
        ax.set_xlabel("K")
    _legend(figure, axes.flat)
    return figure


# Share of its iterations after which back-propagation has the loss, and M.
TARGET = 0.6
MICROBATCHES = 8


def _draw_times(ax, group):
    exact = _smoothed(curve(group["backprop", 1]))
    target = exact[int(TARGET * len(exact))]
    numbers = sorted({k for method, k in group if not is_exact(method)})
    reached = _iterations_to(exact, target)
    lines = {
        METHODS["backprop"].title: (_EXACT, lambda k: 3 * reached),
        f"ideal exact pipeline, M = {MICROBATCHES}": (
            _IDEAL, lambda k: (3 + (k - 1) / MICROBATCHES) / k * reached
        ),
    }
    for method, style in zip(_DRAWN, _STYLES):
        iterations = {
            k: _iterations_to(_smoothed(curve(group[method, k])), target)
            for k in numbers if (method, k) in group
        }
        lines[METHODS[method].title] = style, (
            lambda k, iterations=iterations: 4 / k * iterations.get(k, np.nan)
        )
    for title, (style, time) in lines.items():
        ax.plot(
            numbers, [time(k) for k in numbers], marker="o", ms=3, lw=1.2,
            label=title, **style,
        )
    ax.set_xscale("log", base=2)
    ax.set_yscale("log")
    ax.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
    ax.yaxis.set_major_formatter(ticker.ScalarFormatter())
    ax.yaxis.set_minor_locator(ticker.NullLocator())
    ax.set_xticks(numbers, map(str, numbers))


def _smoothed(losses):
    """Means of three neighbours, since noise may touch a loss early."""
    return np.convolve(losses, np.ones(3) / 3, "valid")


def _iterations_to(losses, target):
    """Iterations until a smoothed curve falls to a loss, or NaN."""
    at = np.flatnonzero(losses <= target)
    return WINDOW * (at[0] + 2) if len(at) else np.nan


def _legend(figure, axes):
    handles = {}
    for ax in axes:
        for handle, label in zip(*ax.get_legend_handles_labels()):
            handles.setdefault(label, handle)
    figure.legend(
        handles.values(), handles, loc="outside lower center", ncols=3,
        frameon=False,
    )
