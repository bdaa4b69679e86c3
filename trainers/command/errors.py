"""Errors that are not bugs: reported in one line, without a traceback."""

import logging as python_logging
import re
import signal
import sys
import warnings

import tensorflow_datasets as tfds
from absl import app, flags, logging

from trainers.command import output

# What absl says of a required flag that is not given.
_MISSING = r"flag --(\w+)=None: Flag --\1 must have a value other than None\."


class UsageError(Exception):
    """A user error, reported in one line; exit status 2."""

    status = 2


class Diverged(Exception):
    """Training that failed without a user error; exit status 1."""

    status = 1


class Unavailable(Exception):
    """Workers of a cluster are unavailable; exit status 3."""

    status = 3


class Interrupted(Exception):
    """A signal ended a run gracefully; exit status as in a shell.

    Args:
        signum: int, the signal.
        message: str.
    """

    def __init__(self, signum, message):
        super().__init__(message)
        self.status = 128 + signum


class Terminated(BaseException):
    """SIGTERM was received; like `KeyboardInterrupt`, not an `Exception`."""

    status = 128 + signal.SIGTERM


def run(main):
    """Runs a command line.

    Wrong flags, `UsageError`, `Diverged`, `Unavailable`, `Interrupted`, Ctrl-C
    (status 130) and SIGTERM (status 143) end it with one line on standard
    error, without a traceback. Warnings of the library are printed the same
    way, but do not end it.

    Args:
        main: callable without arguments.
    """

    output.protect()

    def parse(argv):
        _told_in_one_line(lambda: parse_flags(argv))
        return argv[:1]

    def run_main(argv):
        del argv
        logging.set_verbosity(logging.ERROR)
        _tell_warnings()
        tfds.disable_progress_bar()
        _told_in_one_line(main)

    app.run(run_main, flags_parser=parse)


def parse_flags(argv):
    """Parses flags, and refuses unknown arguments.

    Args:
        argv: list of strings, the name of the program first.

    Raises:
        UsageError: for an invalid flag or an unknown argument.
    """
    try:
        unknown = flags.FLAGS(argv)[1:]
    except flags.Error as error:
        missing = re.findall(_MISSING, str(error))
        if missing:
            example = ", for example --workdir=runs/my_run"
            raise UsageError(
                f"--{' and --'.join(missing)} "
                f"{'are' if missing[1:] else 'is'} required"
                f"{example if 'workdir' in missing else ''}"
            ) from error
        raise UsageError(str(error)) from error
    except UnicodeDecodeError as error:
        raise UsageError(f"--flagfile must be text: {error}") from error
    if unknown:
        raise UsageError(f"Unknown argument: {unknown[0]}")


class _StandardError(python_logging.Handler):
    """Prints to what is standard error now: a live line replaces it."""

    def emit(self, record):
        print(self.format(record), file=sys.stderr, flush=True)


def _tell_warnings():
    """Prints each warning of the library in one line."""
    handler = _StandardError()
    handler.setFormatter(python_logging.Formatter(f"{_name()}: %(message)s"))
    logger = python_logging.getLogger("fr_keras")
    logger.addHandler(handler)
    logger.setLevel(python_logging.WARNING)
    logger.propagate = False
    warnings.formatwarning = _in_one_line


def _in_one_line(message, *_, **__):
    return f"{_name()}: {' '.join(str(message).split())}\n"


def _name():
    return sys.argv[0].rsplit("/", 1)[-1]


def _terminate(*_):
    raise Terminated


def _told_in_one_line(function):
    signal.signal(signal.SIGTERM, _terminate)
    try:
        function()
    except (UsageError, Diverged, Unavailable, Interrupted) as error:
        _exit(str(error), error.status)
    except KeyboardInterrupt:
        _exit("interrupted", 128 + signal.SIGINT)
    except Terminated:
        _exit("terminated", Terminated.status)


def tell(text):
    """Prints an error in one line on standard error."""
    print(f"{_name()}: {' '.join(text.split())}", file=sys.stderr, flush=True)


def _exit(text, status):
    tell(text)
    sys.exit(status)
