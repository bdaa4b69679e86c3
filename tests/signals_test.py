"""The first signal is noted, the second ends the process at once."""

import os
import signal
import subprocess
import sys
import time

import pytest

from tests.command_line import ROOT
from trainers.command.signals import Signals


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_first_is_noted(signum, capsys):
    before = signal.getsignal(signal.SIGTERM)
    # A shell may have started the tests with interrupts ignored.
    of_interrupts = signal.signal(signal.SIGINT, signal.default_int_handler)
    signals = Signals()
    try:
        with signals.noted():
            assert signals.received is None
            os.kill(os.getpid(), signum)
            deadline = time.monotonic() + 10
            while signals.received is None and time.monotonic() < deadline:
                time.sleep(0.01)
        assert signals.received == signum
        assert signal.getsignal(signal.SIGTERM) is before
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, of_interrupts)
    assert "another signal ends the run immediately" in capsys.readouterr().out


def test_second_ends_at_once():
    """In a call into TensorFlow that lasts for minutes."""
    program = """
import signal
import tensorflow as tf
from trainers.command.signals import Signals

@tf.function(autograph=False)
def call():
    return tf.while_loop(
        lambda i: True, lambda i: [i + 1], [tf.constant(0, tf.int64)]
    )

# A shell may have started the tests with interrupts ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
with Signals().noted():
    print("begins", flush=True)
    call()
"""
    with subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    ) as process:
        try:
            assert process.stdout.readline() == "begins\n"
            time.sleep(1)
            process.send_signal(signal.SIGTERM)
            line = process.stdout.readline()
            assert line.startswith("SIGTERM: will write a checkpoint")
            assert process.poll() is None
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=60) == 128 + signal.SIGINT
        finally:
            process.kill()
