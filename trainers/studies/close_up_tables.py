"""Results of close-ups: a table of steps and bounds, plots of directions."""

import os

import matplotlib.figure
import numpy as np

from fr_keras.visualization.palette import module_colours
from trainers.studies.methods import METHODS, is_exact
from trainers.studies.tasks import TASKS


def write(folder, found):
    """Writes `steps.md`, and `TASK_OPTIMIZER_modules.png` for each pair.

    Args:
        folder: str, the directory to write to.
        found: list of dicts, as returned by `close_up.CloseUp.results`.
    """
    if not found:
        return
    with open(os.path.join(folder, "steps.md"), "w") as file:
        file.write(text(found))
    groups = {}
    for results in found:
        if not is_exact(results["method"]):
            key = results["task"], results["optimizer"]
            groups.setdefault(key, []).append(results)
    for (task, optimizer), cases in groups.items():
        directions(task, optimizer, cases).savefig(
            os.path.join(folder, f"{task}_{optimizer}_modules.png"), dpi=120
        )


def text(found):
    """Tabulates the largest steps of the first, a middle and the last module.

    Args:
        found: as for `write`.

    Returns:
        str, a table in Markdown.
    """
    lines = [
        "| task | K | method | learning rate | module 1 | stable below "
        "| module K/2 | stable below | module K | stable below |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for results in sorted(found, key=_order):
        num_modules = results["num_modules"]
        cells = [
            f"{TASKS[results['task']].title}, {results['optimizer']}",
            str(num_modules), METHODS[results["method"]].title,
            f"{results['learning_rate']:.2g}",
        ]
        for k in (1, num_modules // 2, num_modules):
            steps = [s for s in results["step"][k - 1] if s is not None]
            cells += [
                f"{max(steps, default=np.nan):.2g}",
                f"{results['bound'][k - 1]:.2g}",
            ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _order(results):
    return (
        results["task"], results["optimizer"], results["num_modules"],
        [*METHODS].index(results["method"]),
    )


_ROWS = (
    ("sigma", "σ", 1.0),
    ("downhill", "share of steps downhill", 0.5),
    ("step", "γλ / (1 − μ), share of the stable", 1.0),
)


def directions(task, optimizer, cases):
    """Plots σ, downhill steps and steps, module by module.

    Args:
        task: str.
        optimizer: str.
        cases: list of results of late methods.

    Returns:
        `matplotlib.figure.Figure`, with a column for each method and K.
    """
    cases = sorted(cases, key=_order)
    figure = matplotlib.figure.Figure(
        (1.2 + 2.6 * len(cases), 6.6), layout="constrained"
    )
    figure.suptitle(f"{TASKS[task].title}, {optimizer}")
    axes = figure.subplots(
        len(_ROWS), len(cases), squeeze=False, sharex=True, sharey="row"
    )
    for column, results in zip(axes.T, cases):
        column[0].set_title(
            f"{METHODS[results['method']].title}, K = "
            f"{results['num_modules']}", fontsize="small",
        )
        for ax, (name, _, line) in zip(column, _ROWS):
            _draw(ax, results, name)
            ax.axhline(line, color="#888888", lw=0.8)
            ax.grid(alpha=0.3)
        column[-1].set_xlabel("iteration")
    for ax, (_, title, _) in zip(axes[:, 0], _ROWS):
        ax.set_ylabel(title, fontsize="small")
    axes[0, 0].set_ylim(-0.5, 2)
    axes[1, 0].set_ylim(0, 1)
    axes[2, 0].set_yscale("log")
    axes[2, 0].set_ylim(1e-3, 3)  # At the end the learning rate is nearly 0.
    _legend(figure, axes)
    return figure


def _draw(ax, results, name):
    late = results["num_modules"] - 1
    colors = module_colours(results["num_modules"])
    for k in range(late):
        values = np.array(results[name][k], float)
        if name == "step":
            # (A curvature that is not positive sets no limit.)
            values = values / results["bound"][k]
            values[values <= 0] = np.nan
        ax.plot(
            results["iterations"], values, color=colors[k], lw=1.2,
            label=f"module {k + 1}" if k in (0, late - 1) else None,
        )


def _legend(figure, axes):
    handles = {}
    for ax in axes.flat:
        for handle, label in zip(*ax.get_legend_handles_labels()):
            handles.setdefault(label, handle)
    figure.legend(
        handles.values(), handles, loc="outside lower center", ncols=6,
        frameon=False,
    )
