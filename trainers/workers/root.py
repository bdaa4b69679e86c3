"""The flag that allows workers to run as root."""

from absl import flags

from trainers.workers import private_network

FLAGS = flags.FLAGS

flags.DEFINE_bool(
    "allow_root", False,
    "Allow workers to run as root, although every user of this machine can "
    "then make them do whatever root can (docs/scaling.md).",
)


def is_allowed():
    """Whether workers may run as root: by flag, or in a private network."""
    return FLAGS.allow_root or private_network.is_entered()
