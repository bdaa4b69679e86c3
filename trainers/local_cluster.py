r"""Trains on workers on this machine, to try out a cluster without one.

    python -m trainers.local_cluster --num_workers=2 -- \
        --flagfile=configs/digits_fr.cfg --workdir=runs/digits_cluster

Arguments after `--` are passed to trainers.train, with the workers' addresses.
The workers listen on loopback, each on its own core if there are enough. A
worker that dies is restarted. The workers end with the training, and this
command exits with its status.

Every user of this machine can connect to loopback, and make a worker do
anything that its user may. --private_network keeps others out by running
everything in a private network (Linux, if it allows users to have one). The
training then reaches no other machine, for example to download a dataset.
"""

import signal
import subprocess
import sys

from absl import flags

from trainers.command import errors
from trainers.workers import local_workers, private_network

FLAGS = flags.FLAGS

flags.DEFINE_integer(
    "num_workers", 2, "Number of workers.", lower_bound=1, upper_bound=1000
)
flags.DEFINE_bool(
    "deterministic", False,
    "Make the computations of workers reproducible, as trainers.train "
    "--deterministic requires.",
)


flags.DEFINE_enum(
    "private_network", "no", ["yes", "no", "auto"],
    "Whether to run everything in a private network; auto: if the system "
    "allows this user to have one.",
)
flags.declare_key_flag("allow_root")


def main(arguments):
    """Trains on local workers.

    Args:
        arguments: list of str, for trainers.train.
    """
    if not any("workdir" in a or "flagfile" in a for a in arguments):
        # Now, rather than after workers have started.
        raise errors.UsageError(
            "The flags of trainers.train must follow --, at least --workdir, "
            "for example: -- --flagfile=configs/digits_fr.cfg "
            f"--workdir=runs/my_run. Received: {' '.join(arguments) or 'none'}"
        )
    if FLAGS.private_network != "no" and not private_network.is_entered():
        why_not = private_network.begin_again()
        if FLAGS.private_network == "yes":
            raise errors.UsageError(f"--private_network=yes: {why_not}")
        errors.tell(
            f"every user of this machine can connect to the workers: {why_not}"
        )
    with local_workers.started(
        FLAGS.num_workers, FLAGS.deterministic
    ) as workers:
        for i, worker in enumerate(workers):
            print(
                f"Worker {i}: {worker.address}, process {worker.process.pid}",
                flush=True,
            )
        training = subprocess.Popen(
            [
                sys.executable, "-m", "trainers.train",
                f"--workers={','.join(worker.address for worker in workers)}",
                *arguments,
            ],
            # So that a terminal's signals arrive only once, forwarded below.
            start_new_session=True,
        )
        for signum, sent in (
            (signal.SIGTERM, signal.SIGTERM), (signal.SIGINT, signal.SIGINT),
            (signal.SIGHUP, signal.SIGTERM),
        ):
            signal.signal(
                signum, lambda *_, sent=sent: training.send_signal(sent)
            )
        status = training.wait()
    # The status that a shell reports for a process ended by a signal.
    sys.exit(status if status >= 0 else 128 - status)


if __name__ == "__main__":
    if "--" in sys.argv:
        end = sys.argv.index("--")
        sys.argv, rest = sys.argv[:end], sys.argv[end + 1:]
    else:
        rest = []
    errors.run(lambda: main(rest))
