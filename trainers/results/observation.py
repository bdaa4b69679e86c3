"""Flags and callbacks that observe training."""

import os

import keras
from absl import flags

from fr_keras import diagnostics
from trainers.results import tensorboard

FLAGS = flags.FLAGS

flags.DEFINE_integer(
    "diagnostics_every", 0,
    "Iterations between two probes of the diagnostics (docs/diagnostics.md); "
    "0: no diagnostics. (dni, whose gradients are predictions, replicas, and "
    "--replay_microbatches above 1 cannot be probed and have only the other "
    "diagnostics.)",
    lower_bound=0, upper_bound=1_000_000_000,
)
flags.DEFINE_bool(
    "exact_gradient", False,
    "Compute the gradient over the whole training set in every probe, for the "
    "exact σ and the convergence bound; for small datasets.",
)
flags.DEFINE_bool(
    "histograms", False, "Write histograms of the weights after every epoch."
)
flags.DEFINE_bool(
    "graph", False, "Write the training graph, with devices."
)
flags.DEFINE_list(
    "profile_steps", [],
    "First and last iteration to profile, like 100,110.",
)
flags.register_validator(
    "profile_steps",
    lambda steps: not steps or (
        len(steps) == 2 and all(s.isascii() and s.isdigit() for s in steps)
        and int(steps[0]) <= int(steps[1]) < 10**9
    ),
    "must be two iteration numbers, the first not above the second",
)
flags.register_multi_flags_validator(
    ["exact_gradient", "diagnostics_every"],
    lambda values: values["diagnostics_every"] or not values["exact_gradient"],
    "--exact_gradient needs --diagnostics_every",
)
flags.register_multi_flags_validator(
    ["exact_gradient", "replicas"],
    lambda values: values["replicas"] == 1 or not values["exact_gradient"],
    "--exact_gradient needs --replicas=1",
)
flags.register_multi_flags_validator(
    ["exact_gradient", "replay_microbatches"],
    lambda values: (
        values["replay_microbatches"] in (None, 1)
        or not values["exact_gradient"]
    ),
    "--exact_gradient needs --replay_microbatches=1",
)


def callbacks(workdir, files, model, data, num_examples):
    """The callbacks that observe training.

    Args:
        workdir: str.
        files: `trainers.results.event_files.RunFiles`.
        model: algorithm.
        data: `trainers.data.data.Data`.
        num_examples: int, training examples per epoch.

    Returns:
        List of `keras.callbacks.Callback`, those that write logs last.
    """
    found = [
        diagnostics.GradientNorm(),
        diagnostics.Throughput(num_examples),
    ]
    if FLAGS.diagnostics_every:
        found += [
            diagnostics.UpdateRatio(),
            diagnostics.ReplayQueues(),
        ]
        if not FLAGS.deterministic:  # Clocks are not deterministic.
            found.append(diagnostics.BusyShares(
                10 * FLAGS.diagnostics_every, writer=files
            ))
        if (
            model.delays is not None and model.replicas == 1
            and getattr(model, "num_microbatches", 1) == 1
        ):
            found += probes(data, files)
        # Only after the files of an interrupted run are truncated.
        found.append(keras.callbacks.LambdaCallback(
            on_train_begin=lambda logs: tensorboard.write_layout(files())
        ))
    if FLAGS.graph:
        found.append(tensorboard.Graph(files()))
    if FLAGS.profile_steps:
        found.append(tensorboard.Profile(
            os.path.join(workdir, "profile"), *map(int, FLAGS.profile_steps)
        ))
    return [
        *found,
        tensorboard.Curves(workdir, FLAGS.histograms, files, found),
    ]


def probes(data, files):
    """The diagnostics that compare gradients with the true ones.

    Args:
        data: `trainers.data.data.Data`.
        files: `trainers.results.event_files.RunFiles`.

    Returns:
        List of `keras.callbacks.Callback`.
    """
    options = {"every": FLAGS.diagnostics_every, "writer": files}
    found = [
        diagnostics.DeltaResidual(**options),
        diagnostics.FeatureDrift(**options),
        diagnostics.DownhillSteps(**options),
    ]
    dataset = None
    if FLAGS.exact_gradient:
        dataset = data.plain_train_batches(FLAGS.batch_size)
        found.append(diagnostics.ConvergenceBound(dataset, **options))
    return [
        diagnostics.SufficientDirection(dataset=dataset, **options), *found
    ]
