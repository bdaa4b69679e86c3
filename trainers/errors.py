"""What goes wrong through no fault of the program: one line, no traceback."""

import signal
import sys

import tensorflow_datasets as tfds
from absl import app, flags, logging


class UsageError(Exception):
    """A mistake of the user, told in one line; exit status 2."""

    status = 2


class Diverged(Exception):
    """Training that failed, with nobody's mistake in sight; exit status 1."""

    status = 1


class Terminated(BaseException):
    """SIGTERM came; like `KeyboardInterrupt`, not to be taken for an error."""

    status = 128 + signal.SIGTERM


def run(main):
    """Runs a command line.

    Wrong flags, `UsageError`, `Diverged`, Ctrl-C (status 130) and SIGTERM
    (status 143) end it with one line on standard error, without a traceback.

    Args:
        main: callable without arguments.
    """

    def parse(argv):
        _told_in_one_line(lambda: parse_flags(argv))
        return argv[:1]

    def run_main(argv):
        del argv
        logging.set_verbosity(logging.ERROR)
        tfds.disable_progress_bar()
        _told_in_one_line(main)

    app.run(run_main, flags_parser=parse)


def parse_flags(argv):
    """Parses flags, of which nothing may be left over.

    Args:
        argv: list of strings, the name of the program first.

    Raises:
        UsageError: for a flag that is wrong or unknown.
    """
    try:
        unknown = flags.FLAGS(argv)[1:]
    except flags.Error as error:
        raise UsageError(str(error)) from error
    except UnicodeDecodeError as error:
        raise UsageError(f"--flagfile must be text: {error}") from error
    if unknown:
        raise UsageError(f"Unknown argument: {unknown[0]}")


def _terminate(*_):
    raise Terminated


def _told_in_one_line(function):
    signal.signal(signal.SIGTERM, _terminate)
    try:
        function()
    except (UsageError, Diverged) as error:
        _exit(" ".join(str(error).split()), error.status)
    except KeyboardInterrupt:
        _exit("interrupted", 128 + signal.SIGINT)
    except Terminated:
        _exit("terminated", Terminated.status)


def _exit(text, status):
    print(f"{sys.argv[0].rsplit('/', 1)[-1]}: {text}", file=sys.stderr)
    sys.exit(status)
