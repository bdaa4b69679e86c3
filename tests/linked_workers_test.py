"""Links between workers whose rate the kernel limits."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from tests.command_line import ROOT, command
from trainers.benchmarks import links
from trainers.command import errors
from trainers.workers import linked_workers

# Sends tensors there and back, as often as the planner's measurement does.
_MEASURES = """
import json, math, sys
from absl import flags
from fr_keras import cluster
from fr_keras.engine import placement
from fr_keras.planning.links import measure_links
from trainers.workers import linked_workers

flags.FLAGS(sys.argv[:1])
found = {}
with linked_workers.started(2) as workers:
    cluster.connect(workers.addresses)
    for rate in (200e6, math.inf):
        workers.limit(rate)
        before = workers.sent()
        bytes_per_second, latency = measure_links(placement.assign_devices(2))
        after = workers.sent()
        found[str(rate)] = [
            bytes_per_second * 8, after[0, 1] - before[0, 1],
            after[1, 0] - before[1, 0],
        ]
print(json.dumps(found))
"""


@pytest.fixture
def possible():
    if os.geteuid() != 0 or not all(map(shutil.which, ("ip", "tc"))):
        pytest.skip("it needs root and iproute2")
    done = in_private_network(["true"])
    if done.returncode:
        pytest.skip(done.stderr)


def in_private_network(arguments):
    return subprocess.run(
        [sys.executable, "-m", "trainers.private_network", *arguments],
        cwd=ROOT, capture_output=True, text=True, timeout=300, check=False,
    )


@pytest.mark.slow
def test_what_is_sent_is_counted_and_limited(possible):
    """The kernel counts as many bytes there as back, at most at the rate."""
    done = in_private_network([sys.executable, "-c", _MEASURES])
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    for rate, (bits_per_second, up, down) in found.items():
        assert up > 1e8
        assert up == pytest.approx(down, rel=0.02)
        # (A busy machine may be slower.)
        assert bits_per_second < 1.05 * float(rate)


@pytest.mark.slow
def test_links_benchmark(possible, tmp_path):
    """Sleeping modules, measured on every kind of link."""
    done = command(
        "trainers.benchmark", "--measure=links", "--numbers_of_modules=4",
        "--steps_per_execution=2", "--rounds=1", "--tau=0.02",
        f"--workdir={tmp_path / 'new'}",
    )
    assert done.returncode == 0, done.stderr
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in done.stdout.splitlines() if line.startswith("|")
    ][2:]
    assert len(rows) == len(links.RATES) * len(links.METHODS)
    for rate, method, seconds, predicted, _, _, sent in rows:
        # A device must compute for as long, whatever the links.
        assert float(seconds.split()[0]) > 3 * 0.02
        least = links.BYTES / 1e6
        if method == "features_replay, bfloat16":
            least /= 2
        # With the headers of packets and gRPC.
        assert least < float(sent) < 1.1 * least, (rate, method)
        if rate != "unlimited":
            seconds_on_link = least * 8 / float(rate)
            assert float(predicted) > 0.99 * seconds_on_link
    names = {path.name for path in (tmp_path / "new").iterdir()}
    assert names == {"table.md"} | {
        f"timeline_4_{rate}.png" for rate in ("unlimited", 1000, 200, 50)
    }


def test_others_are_told_in_a_line(monkeypatch):
    """On machines with the programs and without."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(shutil, "which", lambda name: f"/sbin/{name}")
    with pytest.raises(errors.UsageError, match="Received: another user"):
        linked_workers.check()
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(errors.UsageError, match="iproute2.*Received: no ip"):
        linked_workers.check()
