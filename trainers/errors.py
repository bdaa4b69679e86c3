"""What goes wrong through no fault of the program: one line, status 2."""

import contextlib
import sys

import tensorflow_datasets as tfds
from absl import app, flags, logging


class UsageError(Exception):
    """A mistake of the user, told in one line."""


def run(main):
    """Runs a command line.

    Wrong flags and `UsageError`s end it with one line on standard error and
    exit status 2, without a traceback.

    Args:
        main: callable without arguments.
    """

    def parse(argv):
        with _told_in_one_line(flags.Error, UnicodeDecodeError):
            unknown = flags.FLAGS(argv)[1:]
            if unknown:
                raise flags.Error(f"Unknown argument: {unknown[0]}")
        return argv[:1]

    def run_main(argv):
        del argv
        logging.set_verbosity(logging.ERROR)
        tfds.disable_progress_bar()
        with _told_in_one_line(UsageError):
            main()

    app.run(run_main, flags_parser=parse)


@contextlib.contextmanager
def _told_in_one_line(*errors):
    try:
        yield
    except errors as error:
        text = " ".join(str(error).split())
        print(f"{sys.argv[0].rsplit('/', 1)[-1]}: {text}", file=sys.stderr)
        sys.exit(2)
