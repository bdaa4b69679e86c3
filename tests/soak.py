r"""Trains for an hour and measures what grows: memory, descriptors, disk.

    python -m tests.soak --minutes=60

One run of trainers.train on the digits (K=3), with a checkpoint every other
second and all diagnostics; and then ten runs one after the other on the same
two workers, whose memory is looked at after each.
"""

import argparse
import os
import pathlib
import signal
import tempfile
import time

import numpy as np
import psutil

from fr_keras.callbacks.checkpoints import store
from tests.command_line import finish, start
from tests.local_workers import start_worker

JOB = (
    "--flagfile=configs/digits_fr.cfg", "--depth=20", "--num_modules=3",
    "--batch_size=64", "--steps_per_execution=4", "--learning_rate_drops=",
)
OBSERVED = ("--diagnostics_every=16", "--histograms", "--graph")


def measured(process, workdir):
    """What a process has at this moment, a dict from names to numbers."""
    with process.oneshot():
        sizes = {
            path: path.stat().st_size for path in workdir.rglob("*")
            if path.is_file()
        }
        events = [path for path in sizes if "tfevents" in path.name]
        return {
            "memory (MB)": process.memory_info().rss / 1e6,
            "threads": process.num_threads(),
            "descriptors": process.num_fds(),
            "files": len(sizes),
            "event files": len(events),
            "event files (MB)": sum(map(sizes.get, events)) / 1e6,
            "all else on disk (MB)": (
                sum(sizes.values()) - sum(map(sizes.get, events))
            ) / 1e6,
        }


def growth(times, values):
    """How much a number grows in an hour, by least squares.

    Args:
        times: list of floats, seconds.
        values: list of floats.
    """
    times = np.asarray(times) / 3600
    return float(np.polyfit(times - times.mean(), values, 1)[0])


def soak(minutes, folder):
    """Trains so long; returns the lines of a table."""
    workdir = folder / "run"
    run = start(
        "trainers.train", *JOB, *OBSERVED, f"--workdir={workdir}",
        f"--data_dir={folder / 'data'}", "--epochs=1000000",
        "--checkpoint_minutes=0.03",
    )
    process = psutil.Process(run.pid)
    while len(list(workdir.glob("checkpoints/*.index"))) < 3:
        assert run.poll() is None, run.stderr.read()
        time.sleep(1)
    begun = time.monotonic()
    times, found = [], []
    while (now := time.monotonic() - begun) < 60 * minutes:
        assert run.poll() is None, run.stderr.read()
        times.append(now)
        found.append(measured(process, workdir))
        time.sleep(min(5, minutes))
    run.send_signal(signal.SIGTERM)
    finish(run)
    (prefix, *_) = reversed(store.Store(workdir / "checkpoints", 3).prefixes())
    print(
        f"{minutes:g} minutes, {prefix.rpartition('-')[2]} checkpoints, "
        f"iteration {store.read_manifest(prefix)['position']['step']}"
    )
    half = len(times) // 2  # Until then buffers fill.
    return [
        (
            name, found[0][name], found[half][name], found[-1][name],
            growth(times[half:], [one[name] for one in found[half:]]),
        )
        for name in found[0]
    ]


def on_workers(runs, folder):
    """Memory of two workers after each of several runs, a list of lists."""
    workers = [start_worker() for _ in range(2)]
    found = []
    try:
        for i in range(runs):
            done = finish(start(
                "trainers.train", *JOB, "--num_modules=2", "--epochs=2",
                f"--workers={','.join(address for _, address in workers)}",
                "--deterministic", f"--workdir={folder / f'on_workers_{i}'}",
                f"--data_dir={folder / 'data'}",
            ))
            assert done.returncode == 0, done.stderr
            found.append([
                psutil.Process(process.pid).memory_info().rss / 1e6
                for process, _ in workers
            ])
    finally:
        for process, _ in workers:
            process.kill()
            process.communicate()
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--runs", type=int, default=10)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        if args.minutes:
            rows = soak(args.minutes, folder)
            print(
                "| | at the beginning | half-way | at the end | growth in an "
                "hour, second half |\n|---|---|---|---|---|"
            )
            for name, *values in rows:
                print(f"| {name} | " + " | ".join(
                    f"{value:.1f}" for value in values
                ) + " |", flush=True)
        for i, sizes in enumerate(on_workers(args.runs, folder)):
            print(f"run {i + 1}, memory of the workers (MB):", *(
                f"{size:.0f}" for size in sizes
            ), flush=True)


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    main()
