"""Output that never decides whether a run lives."""

import contextlib
import os
import sys


class Unbreakable:
    """A text stream of which nothing ever fails.

    Who reads what a run says, `tee`, ssh or a terminal, may go away, and a
    disk that it is written to may be full; neither is a reason to end.

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
            # For good. What is still buffered would fail at the end, too.
            with contextlib.suppress(OSError, ValueError):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, self._stream.fileno())
                os.close(nowhere)
        except (OSError, ValueError):
            pass  # A full disk, a terminal that is gone, a closed stream.

    def __getattr__(self, name):
        return getattr(self._stream, name)


def protect():
    """Has what this process says fail no more."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        # (Without a terminal and anything else there is none.)
        if stream is not None and not isinstance(stream, Unbreakable):
            setattr(sys, name, Unbreakable(stream))
