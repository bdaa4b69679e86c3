r"""Measures speed, memory and recovery of training on this machine.

    python -m trainers.benchmark --flagfile=configs/benchmark_schedule.cfg \
        --workdir=runs/benchmark_schedule

--measure selects one of fourteen measurements:

    schedule    modules that only sleep: the time of the schedule alone, for any
                K on any machine, and a timeline picture
    compute     ResNets, one CPU core per module: throughput, compared with the
                bound from each module measured alone, and with stock Keras
    memory      ResNets: bytes allocated by an iteration
    tracing     ResNets: seconds until training starts, beside stock Keras
    overhead    a tiny dense network: time of an iteration beyond stock Keras'
    diagnostics ResNets: the cost of diagnostics
    prediction  ResNets: the cost of predicting weights
    checkpoints ResNets: the cost of writing checkpoints continuously
    workers     ResNets: workers on loopback compared with one process, and the
                bytes sent (Linux)
    layouts     ResNets: a number of cores as K modules x r replicas, in one
                process and on workers on loopback, beside the planner (Linux)
    links       modules that only sleep, and (K=2) a ResNet, on workers whose
                links the kernel limits (root, Linux), beside the simulation
    exchange    gradients alone: adding those of r copies, in one process and on
                workers on loopback (Linux)
    accelerator a ResNet-50 and a Transformer on the GPUs there are, or smaller
                ones on the CPU: what runs where, speed, memory, a profile
    recovery    the digits on workers on loopback: downtime of a run when one
                of them is killed

Variants are interleaved, round by round; tables list the median of the rounds,
with min-max in brackets. The working directory gets:

    table.md        the tables, with machine, versions and command
    timeline.png    (schedule) timeline of the modules' work
    timeline_K.png  (compute) the same for Features Replay with K modules
    timeline_K_RATE.png  (links) the same at a rate in Mbit/s
"""

import functools
import math
import os
import shutil
import sys
import tempfile

from absl import flags

import fr_keras
from fr_keras.callbacks.diagnostics.busy_shares import shares
from fr_keras.visualization.timeline import plot_timeline
from trainers.benchmarks import (
    accelerator,
    accelerator_networks,
    accelerator_report,
    checkpoints,
    cluster_tables,
    compute,
    conditions,
    diagnostics,
    exchanges,
    layouts,
    links,
    memory,
    on_workers,
    overhead,
    prediction,
    processes,
    recovery,
    schedule,
    tables,
    tracing,
)
from trainers.benchmarks.job import Job
from trainers.command import cores, errors, sweep, workdir
from trainers.workers import linked_workers

FLAGS = flags.FLAGS

flags.DEFINE_enum(
    "measure", None,
    [
        "schedule", "compute", "memory", "tracing", "overhead", "diagnostics",
        "prediction", "checkpoints", "workers", "layouts", "links",
        "exchange", "accelerator", "recovery",
    ],
    "What to measure. Required.", required=True,
)
flags.DEFINE_string(
    "workdir", None,
    "Directory for the results; must be new or empty. Required.",
    required=True,
)
flags.DEFINE_integer(
    "rounds", 5, "How many times everything is measured.",
    lower_bound=1, upper_bound=1000,
)
flags.DEFINE_integer(
    "num_steps", 16,
    "(all but memory, tracing and recovery) Iterations per round, rounded up "
    "to whole calls.",
    lower_bound=1, upper_bound=100_000,
)
flags.DEFINE_integer(
    "steps_per_execution", 8,
    "(all but memory, exchange and recovery) Iterations per call of the graph.",
    lower_bound=1, upper_bound=1000,
)
flags.DEFINE_float(
    "tau", 0.02,
    "(schedule and links) Duration of a module's forward pass, in seconds."
)
flags.DEFINE_integer(
    "depth", 20,
    "(all but schedule, overhead, exchange and recovery) Layers of the ResNet: "
    f"{', '.join(map(str, fr_keras.models.RESNET_DEPTHS))}.",
)
flags.DEFINE_integer(
    "batch_size", 128,
    "(all but schedule, overhead, exchange and recovery) Examples per "
    "iteration. Default of accelerator: as suits the network.",
    lower_bound=1, upper_bound=1_000_000,
)

flags.DEFINE_list(
    "variants", [],
    "(compute) Also measure Features Replay in these variants: "
    f"{', '.join(compute.VARIANTS)}.",
)

flags.DEFINE_list(
    "networks", [],
    "(accelerator) Networks to measure, any of "
    f"{', '.join(accelerator_networks.NETWORKS)}. Default: the first two on "
    "GPUs, otherwise the others.",
)
flags.DEFINE_list(
    "parts", list(accelerator.PARTS), "(accelerator) Parts of the report."
)
flags.DEFINE_integer(
    "part_seconds", 1800,
    "(accelerator) Time limit of each part; what was measured until then is "
    "reported.", lower_bound=1, upper_bound=1_000_000,
)

flags.adopt_module_key_flags(sweep)
flags.declare_key_flag("allow_root")
FLAGS.set_default("algorithms", ["backprop", "features_replay"])
FLAGS.set_default("numbers_of_modules", ["2"])
# Comparisons with nan are false, so these validators refuse it.
flags.register_validator(
    "tau", lambda tau: 1e-4 <= tau <= 10, "must be from 0.0001 to 10"
)
flags.register_validator(
    "depth",
    lambda depth: depth in fr_keras.models.RESNET_DEPTHS,
    f"must be one of {fr_keras.models.RESNET_DEPTHS}",
)
for flag, known in (
    ("variants", compute.VARIANTS),
    ("networks", accelerator_networks.NETWORKS),
    ("parts", accelerator.PARTS),
):
    flags.register_validator(
        flag,
        lambda names, known=known: len({*names}) == len(names)
        and all(name in known for name in names),
        f"must be distinct names out of {', '.join(known)}",
    )


def main():
    numbers = sweep.numbers_of_modules()
    num_cores = len(cores.available())
    most = num_cores if FLAGS.measure in (
        "compute", "prediction", "checkpoints", "workers", "layouts",
        "exchange",
    ) else 100
    if max(numbers) > most:
        raise errors.UsageError(
            f"--numbers_of_modules must be at most {most}"
            f"{', so that each module has a core' * (most < 100)}. "
            f"Received: {max(numbers)}"
        )
    if FLAGS.measure == "links":
        linked_workers.check()
    FLAGS.workdir = workdir.make(FLAGS.workdir)
    calls = -(-FLAGS.num_steps // FLAGS.steps_per_execution)
    job = Job(
        FLAGS.depth, FLAGS.batch_size, calls * FLAGS.steps_per_execution,
        FLAGS.steps_per_execution,
    )
    measure = {
        "schedule": measure_schedule,
        "compute": measure_compute,
        "memory": measure_memory,
        "tracing": measure_tracing,
        "overhead": measure_overhead,
        "diagnostics": measure_diagnostics,
        "prediction": measure_prediction,
        "checkpoints": measure_checkpoints,
        "workers": measure_workers,
        "layouts": measure_layouts,
        "links": measure_links,
        "exchange": measure_exchange,
        "accelerator": measure_accelerator,
        "recovery": measure_recovery,
    }[FLAGS.measure]
    try:
        text = measure(numbers, job)
    except processes.Failed as error:
        raise errors.UsageError(str(error)) from error
    text = f"{text}\n\n{conditions.text()}\n"
    show("")
    print(text)
    with workdir.whole_file(
        os.path.join(FLAGS.workdir, "table.md")
    ) as path, open(path, "w") as file:
        file.write(text)
    print(f"The tables are in {FLAGS.workdir}")


def measure_schedule(numbers, job):
    schedule.start(max(numbers))
    parts = []
    for num_modules in numbers:
        rows = schedule.measure(
            num_modules, FLAGS.tau, FLAGS.steps_per_execution, job.num_steps,
            FLAGS.rounds, show,
        )
        parts.append(tables.schedule(num_modules, FLAGS.tau, rows))
    with workdir.whole_file(
        os.path.join(FLAGS.workdir, "timeline.png")
    ) as path:
        schedule.draw(path, max(numbers), FLAGS.tau)
    return "\n\n".join(parts)


def measure_compute(numbers, job):
    parts = []
    for num_modules in numbers:
        rows, modules, predicted, events = compute.measure(
            job, FLAGS.algorithms, FLAGS.variants, num_modules, FLAGS.rounds,
            show,
        )
        parts.append(tables.compute(
            job, num_modules, rows, modules,
            compute.bounds(modules, FLAGS.rounds), predicted, shares(events),
        ))
        with workdir.whole_file(
            os.path.join(FLAGS.workdir, f"timeline_{num_modules}.png")
        ) as path:
            plot_timeline(events, path)
    return "\n\n".join(parts)


def measure_memory(numbers, job):
    return tables.memory(
        job, memory.measure(job, FLAGS.algorithms, numbers, show)
    )


def measure_tracing(numbers, job):
    return tables.tracing(
        job,
        tracing.measure(job, FLAGS.algorithms, numbers, FLAGS.rounds, show),
    )


def measure_overhead(numbers, job):
    return tables.overhead(
        job,
        overhead.measure(job, FLAGS.algorithms, numbers, FLAGS.rounds, show),
    )


def measure_diagnostics(numbers, job):
    return tables.diagnostics(
        job, diagnostics.EVERY,
        diagnostics.measure(job, numbers, FLAGS.rounds, show),
    )


def measure_prediction(numbers, job):
    return "\n\n".join(
        tables.prediction(
            job, k, prediction.measure(job, k, FLAGS.rounds, show)
        )
        for k in numbers
    )


def measure_checkpoints(numbers, job):
    with tempfile.TemporaryDirectory(dir=FLAGS.workdir) as folder:
        return "\n\n".join(
            tables.checkpoints(job, k, checkpoints.measure(
                job, k, folder, FLAGS.rounds, show
            ))
            for k in numbers
        )


def measure_workers(numbers, job):
    if not shutil.which("ss"):
        raise errors.UsageError(
            "--measure=workers counts bytes with the program ss, which was not "
            "found; install iproute2"
        )
    return cluster_tables.on_workers(
        job, on_workers.measure(job, numbers, FLAGS.rounds, show)
    )


def measure_layouts(numbers, job):
    return "\n\n".join(
        cluster_tables.layouts(
            job, n, layouts.measure(job, n, FLAGS.rounds, show)
        )
        for n in numbers
    )


def measure_links(numbers, job):
    if any(links.EXAMPLES % (2 * k) for k in numbers):
        raise errors.UsageError(
            "--measure=links splits batches of "
            f"{links.EXAMPLES} examples into 2 K micro-batches, so "
            "--numbers_of_modules must be powers of 2. "
            f"Received: {','.join(map(str, numbers))}"
        )
    parts = []
    for num_modules in numbers:
        found = links.measure_sleeping(
            num_modules, FLAGS.tau, FLAGS.steps_per_execution, FLAGS.rounds,
            show, functools.partial(draw_links, num_modules),
        )
        parts.append(cluster_tables.links(
            f"K = {num_modules}, modules that only sleep, forward τ = "
            f"{FLAGS.tau * 1e3:g} ms, backward 2τ; {links.BYTES / 1e6:.1f} MB "
            "of features at each boundary", found,
        ))
    if 2 in numbers and len(cores.available()) > 1:
        parts.append(cluster_tables.links(
            f"K = 2, ResNet-{job.depth}, {job.batch_size} images of 32x32, a "
            "core each",
            links.measure_network(job, 2, FLAGS.rounds, show),
        ))
    return "\n\n".join(parts)


def draw_links(num_modules, rate, events):
    """Draws the work in a call of Features Replay."""
    name = f"{rate / 1e6:.0f}" if math.isfinite(rate) else "unlimited"
    with workdir.whole_file(os.path.join(
        FLAGS.workdir, f"timeline_{num_modules}_{name}.png"
    )) as path:
        plot_timeline(events, path, f"Features Replay, links: {name} Mbit/s")


def measure_exchange(numbers, job):
    return "\n\n".join(
        cluster_tables.exchanges(r, exchanges.measure(
            r, job.num_steps, FLAGS.rounds, show
        ))
        for r in numbers
    )


def measure_accelerator(numbers, job):
    report = accelerator_report.Report(FLAGS.workdir, conditions.text())
    names = FLAGS.networks or accelerator_networks.default()
    size = FLAGS.batch_size if FLAGS["batch_size"].present else None
    accelerator.measure(
        [accelerator.case(name, size, job) for name in names],
        accelerator.contestants(FLAGS.algorithms, numbers),
        FLAGS.rounds, FLAGS.parts, FLAGS.part_seconds, report, show,
    )
    return report.text()


def measure_recovery(numbers, job):
    del job
    return "\n\n".join(
        cluster_tables.recovery(k, recovery.measure(k, FLAGS.rounds, show))
        for k in numbers
    )


def show(text):
    """Overwrites the last line of a terminal."""
    if sys.stdout.isatty():
        width = shutil.get_terminal_size().columns - 1
        print(f"\r{text[:width]:<{width}}\r", end="", flush=True)


if __name__ == "__main__":
    errors.run(main)
