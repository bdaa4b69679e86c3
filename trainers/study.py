r"""Studies how delays affect training, and what helps, on one device.

    python -m trainers.study --flagfile=configs/study.cfg --workdir=runs/study

Every task is trained with every optimizer and method, split into every number
of modules. All delays are those of Features Replay, but everything is computed
on one core, six trainings at once. Each learning rate is tuned on a validation
set, with the same number of trainings (12); six more are tested.

Repeat the command to compute missing results after an interruption; several
commands at once share the work. The working directory gets:

    TASK_OPTIMIZER_METHOD_kK.json   the results of a case
    tables.md                       means, standard deviations, paired tests
    TASK.png                        losses against iterations
    time_to_loss.png                time until a loss is reached
    study.cfg                       the settings that all cases share

With --close_ups the library itself trains each once more, at the learning rate
found, and observes its modules: σ, downhill steps, and learning rate times
curvature compared with the largest value stable at their delay.

    close_up_TASK_OPTIMIZER_METHOD_kK.json
    steps.md                        a table of the last quantity
    TASK_OPTIMIZER_modules.png      plots of all three
"""

import itertools
import os
import time

import tensorflow as tf
from absl import flags

from trainers.command import errors, sweep, workdir
from trainers.command.validation import is_positive
from trainers.studies import close_up_tables, pictures, tables
from trainers.studies.cases import WINDOW, Case, Settings
from trainers.studies.close_up import METHODS_SEEN, OPTIMIZERS_SEEN, CloseUp
from trainers.studies.methods import METHODS, OPTIMIZERS, is_exact
from trainers.studies.tasks import TASKS

FLAGS = flags.FLAGS

flags.DEFINE_string(
    "workdir", None,
    "Directory for the results; must be new, empty or that of the same study. "
    "Required.",
    required=True,
)
for _name, _choices in (
    ("tasks", TASKS), ("optimizers", OPTIMIZERS), ("methods", METHODS)
):
    flags.DEFINE_list(
        _name, list(_choices), f"Any of {', '.join(_choices)}."
    )
    flags.register_validator(
        _name,
        lambda names, choices=_choices: names
        and len({*names}) == len(names)
        and all(name in choices for name in names),
        f"must be distinct names out of {', '.join(_choices)}",
    )
flags.DEFINE_integer(
    "num_steps", 400, f"Iterations per training, a multiple of {WINDOW}.",
    lower_bound=WINDOW, upper_bound=1_000_000,
)
flags.register_validator(
    "num_steps", lambda number: number % WINDOW == 0,
    f"must be a multiple of {WINDOW}",
)
flags.DEFINE_float(
    "warmup_share", 0.05,
    "Share of the iterations during which the learning rate warms up.",
)
flags.register_validator(
    "warmup_share", lambda share: is_positive(share) and share < 1,
    "must be above 0 and below 1",
)
flags.DEFINE_bool(
    "close_ups", False,
    "Also observe the modules of back-propagation, the paper's algorithm and "
    "the default, with SGD and Adam.",
)
flags.DEFINE_string(
    "data_dir", None,
    "Directory of prepared datasets. Default: ~/tensorflow_datasets.",
)
flags.declare_key_flag("numbers_of_modules")


def main():
    FLAGS.workdir = os.path.expanduser(FLAGS.workdir)
    # Each of several commands that share the work uses one core.
    tf.config.set_visible_devices([], "GPU")
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    take_workdir()
    settings = Settings(FLAGS.num_steps, FLAGS.warmup_share, FLAGS.data_dir)
    data = {}
    wanted = cases()
    for number, case in enumerate(wanted, start=1):
        with case.claimed(FLAGS.workdir) as is_ours:
            if not is_ours:
                continue
            if case.task not in data:
                data[case.task] = TASKS[case.task].data(FLAGS.data_dir)
            start = time.monotonic()
            case.run(FLAGS.workdir, settings, data[case.task])
            tell(number, len(wanted), case, time.monotonic() - start)
    found = [
        results for case in wanted
        if (results := case.results(FLAGS.workdir)) is not None
    ]
    path = os.path.join(FLAGS.workdir, "tables.md")
    with workdir.whole_file(path) as part, open(part, "w") as file:
        file.write(tables.text(found))
    pictures.write(FLAGS.workdir, found)
    if FLAGS.close_ups:
        close_up_tables.write(FLAGS.workdir, look_closely(settings, data))
    print(f"Tables and plots are in {FLAGS.workdir}")


def cases():
    """The cases selected by the flags, small numbers of modules first."""
    return [
        Case(task, optimizer, method, num_modules)
        for num_modules in (1, *sweep.numbers_of_modules())
        for task in FLAGS.tasks
        for optimizer in FLAGS.optimizers
        for method in FLAGS.methods
        if is_exact(method) == (num_modules == 1)
    ]


def look_closely(settings, data):
    """Runs the close-ups of cases that have results; returns their results."""
    found = []
    for task, optimizer, num_modules in itertools.product(
        FLAGS.tasks, FLAGS.optimizers, sweep.numbers_of_modules()
    ):
        for method in METHODS_SEEN:
            case = Case(
                task, optimizer, method, 1 if is_exact(method) else num_modules
            ).results(FLAGS.workdir)
            if case is None or optimizer not in OPTIMIZERS_SEEN:
                continue
            close_up = CloseUp(task, optimizer, method, num_modules)
            with close_up.claimed(FLAGS.workdir) as is_ours:
                if is_ours:
                    if task not in data:
                        data[task] = TASKS[task].data(FLAGS.data_dir)
                    close_up.run(
                        FLAGS.workdir, case["learning_rate"], settings,
                        data[task],
                    )
                    print(f"Observed {close_up.name}", flush=True)
            results = close_up.results(FLAGS.workdir)
            if results is not None:
                found.append(results)
    return found


def take_workdir():
    """Creates the directory, or checks that its study has these settings."""
    path = os.path.join(FLAGS.workdir, "study.cfg")
    lines = [FLAGS[name].serialize() for name in ("num_steps", "warmup_share")]
    try:
        os.makedirs(FLAGS.workdir, exist_ok=True)
        workdir.check_links(FLAGS.workdir)
        if not os.path.exists(path):
            if os.listdir(FLAGS.workdir):
                raise errors.UsageError(
                    "--workdir must be new or that of a study. Received: "
                    f"{FLAGS.workdir}"
                )
            with workdir.whole_file(path) as part, open(part, "w") as file:
                file.write("\n".join(lines) + "\n")
        with open(path) as file:
            before = file.read().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise errors.UsageError(
            f"--workdir cannot be used: {error}"
        ) from error
    if before != lines:
        changed = sorted({*before} ^ {*lines})
        raise errors.UsageError(
            f"--workdir contains a study with different flags, see {path}. "
            f"Received: {', '.join(changed)}"
        )


def tell(number, of, case, seconds):
    """Prints the results of a case in one line."""
    results = case.results(FLAGS.workdir)
    good = [loss for loss in results["test_loss"] if loss is not None]
    loss = f"{sum(good) / len(good):.4f}" if good else "none"
    print(
        f"[{number}/{of}] {case.name}: learning rate "
        f"{results['learning_rate']:.3g}, test loss {loss}, {seconds:.0f} s",
        flush=True,
    )


if __name__ == "__main__":
    errors.run(main)
