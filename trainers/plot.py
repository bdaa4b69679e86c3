r"""Plots the diagnostics of a run, without TensorBoard.

    python -m trainers.plot --workdir=runs/digits

Reads `history.csv` of a run of `trainers.train`, which may still be running,
and writes the plots that the run has data for to its directory:

    losses.png       training and test loss and accuracy
    sigma.png        the sufficient direction constant of each module, and its
                     share of downhill steps
    residuals.png    staleness of error gradients and features
    norms.png        gradients and weight updates of each module
    bound.png        the convergence bound, and the quantity it bounds

Values measured between epochs are read from the event files in `diagnostics/`,
and drawn between epochs.
"""

import csv
import glob
import os

import numpy as np
import tensorflow as tf
from absl import flags
from matplotlib import figure
from tensorboard.backend.event_processing import event_accumulator

from fr_keras.visualization.palette import log_colours
from trainers.command import errors, workdir

FLAGS = flags.FLAGS

flags.DEFINE_string(
    "workdir", None, "Working directory of the run. Required.", required=True
)

# Title of the axes, names or prefixes of their logs, whether the axis is log.
_PLOTS = {
    "losses.png": [
        ("loss", ["loss", "val_loss"], True),
        ("accuracy", ["accuracy", "val_accuracy"], False),
    ],
    "sigma.png": [
        ("sufficient direction constant", ["sigma/"], False),
        ("share of steps that go downhill", ["downhill/"], False),
    ],
    "residuals.png": [
        ("relative residual of δ", ["relative_residual/"], True),
        ("feature drift", ["feature_drift/"], True),
        ("loss of the mini-batch", ["probed_loss"], True),
    ],
    "norms.png": [
        ("gradient norm", ["gradient_norm/"], True),
        ("update-to-weight ratio", ["update_ratio/"], True),
    ],
    "bound.png": [
        ("‖∇f‖²", ["bound/left", "bound/right"], True),
    ],
}

# Reference values: for σ, 0 (below is uphill) and back-propagation's 1.
_LEVELS = {"sufficient direction constant": (0, 1)}


def main():
    FLAGS.workdir = os.path.expanduser(FLAGS.workdir)
    curves = read(os.path.join(FLAGS.workdir, "history.csv"))
    curves |= read_events(
        os.path.join(FLAGS.workdir, "diagnostics"), curves.get("iterations")
    )
    written = []
    for name, plots in _PLOTS.items():
        picture = draw(plots, curves)
        if picture is not None:
            with workdir.whole_file(
                os.path.join(FLAGS.workdir, name)
            ) as path:
                picture.savefig(path, dpi=150)
            written.append(name)
    if not written:
        raise errors.UsageError(
            f"{FLAGS.workdir}/history.csv must contain a finite value to plot, "
            f"such as a loss. Received: {', '.join(curves)}, without one"
        )
    print(f"{', '.join(written)} in {FLAGS.workdir}")


def read(path):
    """Reads the history of a run.

    Args:
        path: str, a `history.csv`.

    Returns:
        Dict from the names of logs to pairs `(epochs, values)` of arrays of
        floats, one for each epoch.

    Raises:
        UsageError: if the file is missing, empty or damaged.
    """
    try:
        with open(path, newline="") as file:
            rows = list(csv.DictReader(file))
        history = {
            name: np.array([float(row[name]) for row in rows])
            for name in (rows[0] if rows else ())
        }
    except OSError as error:
        raise errors.UsageError(
            f"--workdir must be the directory of a run. Received: {error}"
        ) from error
    except (ValueError, TypeError) as error:
        raise errors.UsageError(
            f"{path} is damaged. Received: {error}"
        ) from error
    if not history:
        raise errors.UsageError(
            f"{path} must contain at least one epoch. Received: an empty file"
        )
    return {
        name: (1.0 + np.arange(len(values)), values)
        for name, values in history.items()
    }


def read_events(folder, iterations):
    """Reads the values logged between epochs.

    Args:
        folder: str, directory of event files, which may be missing.
        iterations: pair `(epochs, iterations at their ends)`, or `None`.

    Returns:
        Dict as for `read`, with fractional epochs where values were logged.
    """
    if iterations is None:
        return {}
    epochs, ends = ([0.0, *values] for values in iterations)
    curves = {}
    for run in (folder, *glob.glob(f"{glob.escape(folder)}/module_*")):
        if not os.path.isdir(run):
            continue
        events = event_accumulator.EventAccumulator(run, {"tensors": 0})
        events.Reload()
        for tag in events.Tags()["tensors"]:
            plugin = events.SummaryMetadata(tag).plugin_data.plugin_name
            if plugin != "scalars" or tag.startswith("epoch_"):
                continue
            steps, values = zip(*(
                (event.step, float(tf.make_ndarray(event.tensor_proto)))
                for event in events.Tensors(tag)
            ))
            name = tag if run == folder else f"{tag}/{os.path.basename(run)}"
            curves[name] = np.interp(steps, ends, epochs), np.array(values)
    return curves


def draw(plots, curves):
    """Draws quantities against epochs, one below the other.

    Args:
        plots: list of tuples, as in `_PLOTS`.
        curves: as returned by `read`.

    Returns:
        `matplotlib.figure.Figure`, or `None` if there is nothing to draw.
    """
    plots = [
        (title, names, log) for title, names, log in (
            (title, [*lines(starts, curves)], log)
            for title, starts, log in plots
        ) if names
    ]
    if not plots:
        return None
    picture = figure.Figure((6.4, 0.6 + 2.6 * len(plots)), layout="constrained")
    all_axes = picture.subplots(len(plots), squeeze=False, sharex=True)[:, 0]
    for axes, (title, names, log) in zip(all_axes, plots):
        for name, colour in zip(names, log_colours(names)):
            epochs, values = curves[name]
            axes.plot(
                epochs, values, color=colour, linewidth=1.5, label=label(name),
                marker="o" if len(values) < 10 else None,
            )
        shown = np.concatenate([curves[name][1] for name in names])
        if log and np.nanmin(shown) > 0:
            axes.set_yscale("log")
        for level in _LEVELS.get(title, ()):
            axes.axhline(level, color="#000000", linewidth=0.8, linestyle=":")
        axes.set_ylabel(title)
        axes.grid(color="#DDDDDD", linewidth=0.5)
        if len(names) > 1:
            axes.legend(frameon=False, ncols=2, fontsize="small")
    all_axes[-1].set_xlabel("epoch")
    return picture


def lines(starts, curves):
    """Yields the logs that match a name or prefix and have a value."""
    for name, (_, values) in sorted(curves.items()):
        begins = any(
            name.startswith(start) if start.endswith("/") else name == start
            for start in starts
        )
        known = values[np.isfinite(values)]
        # Modules without delay have no staleness, which is logged as 0.
        if name.startswith(("relative", "feature")):
            known = known[known != 0]
        if begins and known.size:
            yield name


def label(name):
    return {
        "loss": "training", "val_loss": "test", "accuracy": "training",
        "val_accuracy": "test",
        "bound/left": "mean so far, weighted by learning rates",
        "bound/right": "upper bound of the mean",
    }.get(name, name.rpartition("/")[2].replace("_", " "))


if __name__ == "__main__":
    errors.run(main)
