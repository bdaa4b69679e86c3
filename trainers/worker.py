r"""Starts a worker that offers its devices to a training program elsewhere.

Start one on each machine of a cluster:

    python -m trainers.worker --port=2222 --interface=eth0

Then start the training on any of them:

    python -m trainers.train --workers=host:2222,other:2222 ...

TensorFlow's runtime has no passwords: anyone who can reach the port of a worker
can make it do anything that its user may. A worker therefore accepts
connections only from its own machine, unless --interface names another network
(docs/scaling.md). It serves one run after the other until it is stopped, and
prints its port in one line when it is ready.
"""

import os

import tensorflow as tf
from absl import flags

from trainers.command import allocators, errors
from trainers.workers import connecting, serving

FLAGS = flags.FLAGS

flags.DEFINE_integer(
    "port", None,
    "Port to listen on; 0: any free port. Default: as assigned by --cluster.",
    lower_bound=0, upper_bound=65_535,
)
flags.DEFINE_string(
    "interface", "lo",
    "Network interface on which connections are accepted: lo for this machine "
    "only, all for every interface.",
)
flags.DEFINE_list(
    "cores", [],
    "Numbers of the CPU cores to run on. Default: the cores available to this "
    "process.",
)
flags.DEFINE_bool(
    "deterministic", False,
    "Make TensorFlow's computations reproducible, as a run with "
    "--deterministic requires of its workers.",
)
flags.DEFINE_bool(
    "end_with_input", False,
    "Exit when standard input is closed, for programs that start workers of "
    "their own.",
)
for name in ("cluster", "worker_port", "allow_root"):
    flags.declare_key_flag(name)
flags.register_validator(
    "cores",
    lambda cores: all(core.isascii() and core.isdigit() for core in cores),
    "must be numbers, like 0,1",
)
flags.register_validator(
    "interface", lambda name: 0 < len(name) < 16, "must name an interface"
)


def main():
    if FLAGS.cores:
        try:
            os.sched_setaffinity(0, map(int, FLAGS.cores))
        except (AttributeError, OSError, OverflowError) as error:
            raise errors.UsageError(
                f"--cores={','.join(FLAGS.cores)}: this process cannot run on "
                f"them: {error}"
            ) from error
    if FLAGS.deterministic:
        tf.config.experimental.enable_op_determinism()
    allocators.set_up()
    wanted = FLAGS.port
    if wanted is None:
        wanted = connecting.port_of_worker()
    serving.serve(wanted, FLAGS.interface, FLAGS.end_with_input)


if __name__ == "__main__":
    errors.run(main)
