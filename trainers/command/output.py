"""Output that never ends a run by failing."""

import contextlib
import os
import sys


class Unbreakable:
    """A text stream that never raises.

    The reader of a run's output, `tee`, ssh or a terminal, may disappear, and
    the disk that it is written to may be full; neither should end the run.

    Args:
        stream: text stream with a file descriptor.
    """

    def __init__(self, stream):
        self._stream = stream

    def write(self, text):
        self._attempt(self._stream.write, text)
        return len(text)

    def flush(self):
        self._attempt(self._stream.flush)

    def _attempt(self, function, *args):
        try:
            function(*args)
        except BrokenPipeError:
            # Permanently: what is still buffered would fail at exit, too.
            with contextlib.suppress(OSError, ValueError):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, self._stream.fileno())
                os.close(nowhere)
        except (OSError, ValueError):
            pass  # A full disk, a lost terminal, a closed stream.

    def __getattr__(self, name):
        return getattr(self._stream, name)


def protect():
    """Makes the output of this process unbreakable."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        # (There is none without a terminal or redirection.)
        if stream is not None and not isinstance(stream, Unbreakable):
            setattr(sys, name, Unbreakable(stream))
