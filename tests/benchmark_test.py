"""The benchmark measures what it says; its command line."""

import itertools
import re

import pytest

from fr_keras.planning.simulation import seconds_per_step
from fr_keras.profiling.module_times import ModuleTimes
from tests.command_line import command, complaint, finish, start
from trainers.benchmarks import processes, turns


def test_turns_and_ratios():
    order = []
    numbers = iter([2.0, 1.0, 6.0, 2.0, 4.0, 4.0])

    def contestant(name):
        def run():
            order.append(name)
            return next(numbers)

        return run

    found = turns.take({n: contestant(n) for n in "ab"}, rounds=3)
    assert order == ["a", "b"] * 3
    assert found["a"].values == [2.0, 6.0, 4.0]
    assert found["b"].text() == "2.00 (1.00-4.00)"
    # Round by round, how many times as long `a` takes.
    assert found["b"].ratio(found["a"]).values == [2.0, 3.0, 1.0]


def add(a, b):
    if b == 13:
        raise ValueError("13 brings bad luck")
    return lambda: a + b


def test_processes_answer_and_fail_aloud():
    process = processes.Process(None, add, 2, 3)
    assert process() == process() == 5
    process.close()
    with pytest.raises(processes.Failed, match="ValueError: 13 brings"):
        processes.Process({0}, add, 2, 13)


# A schedule of known length, run for real: sleeping cannot be faster than it
# should, and on an idle machine is hardly slower.


@pytest.mark.slow
def test_schedule_of_known_length(tmp_path):
    """K=2: 6 τ locked, 4 τ by Features Replay, measured with τ = 50 ms."""
    done = command(
        "trainers.benchmark", "--measure=schedule", "--numbers_of_modules=2",
        "--tau=0.05", "--steps_per_execution=4", "--num_steps=4", "--rounds=1",
        f"--workdir={tmp_path / 'new'}",
    )
    assert done.returncode == 0, done.stderr
    rows = dict(
        [cell.strip() for cell in line.strip("|").split("|")][:2]
        for line in done.stdout.splitlines() if line.startswith("|")
    )
    measured = {
        name: float(cell.split()[0]) for name, cell in rows.items()
        if "(" in cell
    }
    modules = [ModuleTimes(1.0, 2.0)] * 2
    parts = {"num_microbatches": 4, "recompute": False}
    for name, schedule, steps, options in [
        ("back-propagation", "backprop", 1, {}),
        ("Features Replay, 4 per call", "features_replay", 4, {}),
        ("DDG, 4 per call", "ddg", 4, {}),
        ("1f1b, 4 micro-batches, 4 per call", "1f1b", 4, parts),
        ("zb-h1, 4 micro-batches, 4 per call", "zb-h1", 4, parts),
        ("zb-h2, 4 micro-batches, 4 per call", "zb-h2", 4, parts),
        (
            "interleaved-1f1b, 4 micro-batches, 4 per call",
            "interleaved-1f1b", 4, parts,
        ),
    ]:
        times = modules
        if schedule.startswith("interleaved"):
            times = [ModuleTimes(0.5, 1.0, device=k % 2) for k in range(4)]
        least = seconds_per_step(schedule, times, steps, **options)
        # (The machine may be busy with other tests.)
        assert 0.99 * least < measured[name] < 2 * least, name
    files = {path.name for path in (tmp_path / "new").iterdir()}
    assert files == {"table.md", "timeline.png"}
    assert (tmp_path / "new" / "table.md").read_text() in done.stdout


@pytest.mark.slow
def test_compute(tmp_path):
    done = command(
        "trainers.benchmark", "--measure=compute", "--numbers_of_modules=1",
        "--batch_size=2", "--steps_per_execution=1", "--num_steps=1",
        "--rounds=1", "--variants=xla,mixed_bfloat16",
        f"--workdir={tmp_path / 'new'}",
    )
    assert done.returncode == 0, done.stderr
    assert "stock Keras, all cores" in done.stdout
    assert "Backprop, K=1, all cores" in done.stdout
    assert "features_replay, K=1, xla" in done.stdout
    assert "of its bound" in done.stdout


@pytest.mark.slow
def test_tracing(tmp_path):
    done = command(
        "trainers.benchmark", "--measure=tracing", "--numbers_of_modules=1,2",
        "--batch_size=2", "--steps_per_execution=2", "--rounds=1",
        f"--workdir={tmp_path / 'new'}",
    )
    assert done.returncode == 0, done.stderr
    rows = [
        [float(cell.split()[0]) for cell in line.split("|")[2:-1]]
        for line in done.stdout.splitlines()
        if "_replay, K=" in line or "stock Keras" in line
    ]
    assert len(rows) == 3
    for first, second, third, together in rows:
        assert first > third >= 0  # To a tenth of a second.
        assert together == pytest.approx(first + second + third, abs=0.2)


@pytest.mark.slow
def test_overhead(tmp_path):
    done = command(
        "trainers.benchmark", "--measure=overhead", "--numbers_of_modules=1,2",
        "--algorithms=features_replay", "--steps_per_execution=4",
        "--num_steps=64", "--rounds=1", f"--workdir={tmp_path / 'new'}",
    )
    assert done.returncode == 0, done.stderr
    rows = {}
    for line in done.stdout.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 3 and "(" in cells[1]:
            rows[cells[0]] = [cell.split()[0] for cell in cells[1:] if cell]
    (stock,) = rows.pop("stock Keras")
    assert list(rows) == ["features_replay, K=1", "features_replay, K=2"]
    for whole, beyond in rows.values():
        assert float(whole) - float(stock) == pytest.approx(
            float(beyond), abs=1
        )


@pytest.mark.slow
def test_layouts(tmp_path):
    done = finish(start(
        "trainers.benchmark", "--measure=layouts", "--numbers_of_modules=2",
        "--batch_size=16", "--num_steps=4", "--steps_per_execution=4",
        "--rounds=1", "--allow_root", f"--workdir={tmp_path / 'new'}",
    ), timeout=1500)
    assert done.returncode == 0, done.stderr
    rows = [
        [cell.strip().split(" (")[0] for cell in line.strip("|").split("|")]
        for line in done.stdout.splitlines() if line.startswith("| ")
    ]
    assert [row[:4] for row in rows[1:]] == [
        [method, k, r, where]
        for where in ("one process", "workers")
        for method, k, r in (
            ("backprop", "1", "2"), ("features_replay", "2", "1")
        )
    ]
    for row in rows[1:]:
        rate, _, seconds, predicted, share = map(float, row[4:])
        assert rate * seconds == pytest.approx(16, rel=0.1)
        assert predicted / seconds == pytest.approx(share, abs=0.02)
    # Workers do not get less to do, but send it.
    for here, there in zip(rows[1:3], rows[3:], strict=True):
        assert float(there[7]) > float(here[7])


@pytest.mark.slow
def test_exchange(tmp_path):
    """All ways add the same numbers, so only bits might differ."""
    done = finish(start(
        "trainers.benchmark", "--measure=exchange", "--numbers_of_modules=2",
        "--num_steps=1", "--rounds=1", "--allow_root",
        f"--workdir={tmp_path / 'new'}",
    ), timeout=1500)
    assert done.returncode == 0, done.stderr
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in done.stdout.splitlines() if line.startswith("| ")
    ]
    assert [tuple(row[:3]) for row in rows[1:]] == [
        *itertools.product(
            ("one process", "workers"), ("1.1", "16.0", "46.8"),
            ("slices", "whole gradients", "one copy adds", "ring"),
        )
    ]
    assert all(same == "yes" for *_, same in rows[1:])


@pytest.mark.slow
def test_workers(tmp_path):
    """Features and error gradients go once, from worker to worker."""
    done = command(
        "trainers.benchmark", "--measure=workers", "--numbers_of_modules=2",
        "--batch_size=32", "--num_steps=4", "--steps_per_execution=4",
        "--rounds=1", "--allow_root", f"--workdir={tmp_path / 'new'}",
    )
    assert done.returncode == 0, done.stderr
    sent = {}
    for line in done.stdout.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if cells[0] == "program" or cells[0].startswith("worker "):
            sent[cells[0], cells[1]] = float(cells[2])
    features = float(
        re.search(r"boundaries: ([\d.]+) MB", done.stdout).group(1)
    )
    # 16 channels of 32x32 or 32 of 16x16, once or (a shortcut) twice.
    assert features in (
        pytest.approx(size * 32 * 4 / 1e6, abs=0.001)
        for size in (16384, 8192, 24576)
    )
    between = [("worker 0", "worker 1"), ("worker 1", "worker 0")]
    for pair, size in sent.items():
        if pair in between:
            assert features < size < 1.01 * features
        else:
            assert size < 0.01 * features


@pytest.mark.slow
def test_checkpoints(tmp_path):
    """One after each call of 4 iterations, and as often as can be written."""
    done = command(
        "trainers.benchmark", "--measure=checkpoints",
        "--numbers_of_modules=2", "--batch_size=2", "--num_steps=40",
        "--steps_per_execution=4", "--rounds=1",
        f"--workdir={tmp_path / 'new'}",
    )
    assert done.returncode == 0, done.stderr
    written = {}
    for line in done.stdout.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 4 and "(" in cells[1]:
            written[cells[0]] = float(cells[1].split()[0])
    assert written.pop("none") == 0
    assert written.pop("after each call, which waits") == 100 / 4
    (in_the_background,) = written.values()
    assert 0 < in_the_background <= 100 / 4
    # Nothing is left of them.
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["table.md"]


@pytest.mark.slow
def test_memory(tmp_path):
    done = command(
        "trainers.benchmark", "--measure=memory", "--numbers_of_modules=2",
        "--batch_size=32", "--algorithms=backprop,features_replay,pipeline",
        f"--workdir={tmp_path / 'new'}",
    )
    assert done.returncode == 0, done.stderr
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in done.stdout.splitlines()
        if re.match(r"\| (backprop|features|gpipe|1f1b|zb)", line)
    ]
    # Eighths of a batch whose activations are kept at a time, by the formulas
    # of the papers; of 1F1B, two by module 1 and one by module 2.
    in_flight = {
        "backprop": 8, "features_replay": 8,
        "features_replay, 8 micro-batches": 1, "gpipe, 8 micro-batches": 8,
        "1f1b, 8 micro-batches": 1.5, "zb-h1, 8 micro-batches": 2,
        "zb-h2, 8 micro-batches": 3,
    }
    assert [row[0] for row in rows] == [*in_flight]
    for algorithm, _, *sizes, _ in rows:
        peak, parameters, slots, kept, rest, counted = map(float, sizes)
        # ResNet-20 has 269,722 parameters; statistics come to 1,376 more.
        assert parameters == pytest.approx(1.1, abs=0.1)
        assert slots == pytest.approx(1.1, abs=0.1)
        assert peak == pytest.approx(parameters + slots + kept + rest, abs=0.3)
        # 53.7 MB of activations by 32 examples (tests/measurement_test.py).
        activations = 53 * in_flight[algorithm] / 8
        assert counted - parameters - slots - kept == pytest.approx(
            activations, abs=5
        )
        # Beside them, gradients and workspaces.
        assert rest < 1.25 * activations + 5
        if not algorithm.startswith("features_replay"):
            assert kept == 0
        else:
            # A batch of images, and of error gradients: 16 channels below
            # 32x32, 32 below 16x16.
            images, half = 32 * 32 * 32 * 3 * 4, 32 * 16 * 16 * 32 * 4
            assert kept in (
                pytest.approx((images + half) / 1e6, abs=0.1),
                pytest.approx((images + 2 * half) / 1e6, abs=0.1),
            )


@pytest.mark.parametrize(
    "program, flag",
    [
        ("benchmark", "--numbers_of_modules=99"),  # More than cores.
        *(
            (program, flag)
            for program, flags in {
                "benchmark": [
                    "--measure=speed", "--numbers_of_modules=0", "--depth=21",
                    "--algorithms=magic", "--rounds=0", "--tau=0", "--tau=nan",
                    "--variants=magic", "--num_steps=0",
                    "--steps_per_execution=0", "--batch_size=0",
                ],
                "plan": [
                    "--gbits_per_second=0", "--gbits_per_second=10,nan",
                    "--gbits_per_second=", "--latency=-1", "--latency=nan",
                    "--device=GPU:7", "--model=LICENSE",
                    "--model=nowhere.keras", "--numbers_of_modules=0",
                    "--numbers_of_modules=2,2", "--depth=3", "--depth=0",
                    "--model=magic", "--model=applications.inspect",
                    "--teraflops=nan", "--teraflops=0", "--dtype_policy=int8",
                    "--cores=0", "--image_size=1", "--model_args=7",
                    "--model_args={\"layers\": 7}", "--batch_size=0",
                ],
            }.items()
            for flag in flags
        ),
    ],
)
@pytest.mark.quick_cases(
    "benchmark---numbers_of_modules=99", "benchmark---tau=nan",
    "benchmark---depth=21", "plan---latency=nan", "plan---model=nowhere.keras",
    "plan---model_args=7", "plan---model=applications.inspect",
)
def test_nonsense_is_refused(program, flag, tmp_path):
    workdir = tmp_path / "new"
    own = {"benchmark": ["--measure=compute", f"--workdir={workdir}"]}
    done = command(
        f"trainers.{program}", "--batch_size=2", *own.get(program, []), flag
    )
    assert flag.split("=")[0].strip("-") in complaint(done)
    assert not workdir.exists()


def test_what_a_contestant_cannot_do(tmp_path):
    done = command(
        "trainers.benchmark", "--measure=memory", "--numbers_of_modules=1",
        "--algorithms=gpipe", "--batch_size=3", f"--workdir={tmp_path / 'new'}",
    )
    assert "divisible by num_microbatches=8" in complaint(done)


@pytest.mark.slow
def test_nothing_is_overwritten(tmp_path):
    (tmp_path / "thesis.tex").write_text("")
    done = command(
        "trainers.benchmark", "--measure=memory", f"--workdir={tmp_path}"
    )
    assert "--workdir must be new" in complaint(done)
