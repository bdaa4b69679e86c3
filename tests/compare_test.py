"""The command line of comparisons."""

import fcntl
import os
import signal
import time

import pytest

from tests.command_line import command, complaint, finish, start

JOB = [
    "--flagfile=configs/digits_fr.cfg", "--epochs=1", "--batch_size=479",
    "--learning_rate_drops=", "--steps_per_execution=1",
    "--algorithms=features_replay,gpipe", "--numbers_of_modules=2",
    "--seeds=0", "--num_microbatches=1",
]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("comparisons") / "digits"
    data_dir = tmp_path_factory.mktemp("data")
    done = command(
        "trainers.compare", *JOB, f"--workdir={workdir}",
        f"--data_dir={data_dir}",
    )
    assert done.returncode == 0, done.stderr
    return workdir, data_dir, done


def test_leaves_its_files(finished):
    workdir, _, done = finished
    names = {path.name for path in workdir.iterdir()}
    assert names == {
        "features_replay_k2_seed0", "gpipe_k2_seed0", "table.md", "table.csv",
        "epochs.png", "time.png", "experiment.cfg",
    }
    first, second, *table, last = done.stdout.splitlines()
    assert first.startswith("[1/2] features_replay, K=2, seed 0: error ")
    assert second.startswith("[2/2] gpipe, K=2, seed 0: error ")
    assert "\n".join(table) == (workdir / "table.md").read_text().strip()
    assert last == f"Tables, plots and runs are in {workdir}"


@pytest.mark.slow
def test_goes_on_where_it_was_stopped(finished):
    workdir, data_dir, _ = finished
    kept = workdir / "features_replay_k2_seed0"
    before = {path: path.stat().st_mtime_ns for path in kept.rglob("*")}
    run = workdir / "gpipe_k2_seed0"
    run.rename(workdir / "part_of_gpipe_k2_seed0")
    (workdir / "part_of_gpipe_k2_seed0" / "results.json").unlink()

    done = command(
        "trainers.compare", *JOB, f"--workdir={workdir}",
        f"--data_dir={data_dir}",
    )

    assert done.returncode == 0, done.stderr
    there, made, *_ = done.stdout.splitlines()
    assert there == "1 of 2 runs are already finished"
    assert made.startswith("[2/2] gpipe, K=2, seed 0: error ")
    assert {p: p.stat().st_mtime_ns for p in kept.rglob("*")} == before
    assert (run / "results.json").exists()
    assert not (run / "checkpoints").exists()
    assert not list(workdir.glob("part_of_*"))


def test_run_that_fails_is_told(tmp_path):
    # 1437 examples leave a batch that cannot be split.
    done = command(
        "trainers.compare", *JOB, "--algorithms=gpipe", "--num_microbatches=2",
        f"--workdir={tmp_path / 'new'}", f"--data_dir={tmp_path}",
    )
    line = complaint(done)
    assert line.startswith("compare.py: gpipe_k2_seed0: train.py: The size of")


def test_workdir_of_another_comparison(finished):
    workdir, data_dir, _ = finished
    done = command(
        "trainers.compare", *JOB, "--epochs=2", f"--workdir={workdir}",
        f"--data_dir={data_dir}",
    )
    assert complaint(done).endswith("Received: --epochs=1, --epochs=2")


def test_two_at_a_time(finished):
    workdir, data_dir, _ = finished
    with open(workdir / "experiment.cfg") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        done = command(
            "trainers.compare", *JOB, f"--workdir={workdir}",
            f"--data_dir={data_dir}"
        )
    assert "in use by another process" in complaint(done)


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_run_and_comparison_end_together(how, tmp_path):
    """Terminated, it takes its run along; killed, it leaves it the lock."""
    workdir = tmp_path / "new"
    compare = start(
        "trainers.compare", *JOB, "--epochs=100000", f"--workdir={workdir}",
        f"--data_dir={tmp_path}", new_session=True,
    )
    event_files = workdir / "part_of_features_replay_k2_seed0" / "train"
    while not event_files.exists():
        assert compare.poll() is None
        time.sleep(0.1)
    compare.send_signal(how)
    with open(workdir / "experiment.cfg") as file:
        if how == signal.SIGTERM:
            done = finish(compare)
            assert done.returncode == 128 + signal.SIGTERM
            assert done.stderr == "compare.py: terminated\n"
        else:
            compare.wait()
            with pytest.raises(BlockingIOError):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.killpg(compare.pid, signal.SIGKILL)
        fcntl.flock(file, fcntl.LOCK_EX)  # Nobody has it any more.


def test_workdir_of_something_else(tmp_path):
    (tmp_path / "thesis.tex").write_text("")
    done = command("trainers.compare", f"--workdir={tmp_path}")
    assert "--workdir must be new" in complaint(done)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize(
    "flag",
    [
        "--algorithms=", "--algorithms=magic", "--algorithms=ddg,ddg",
        "--numbers_of_modules=", "--numbers_of_modules=0",
        "--numbers_of_modules=two", "--numbers_of_modules=2,2",
        "--seeds=", "--seeds=-1", "--seeds=1.5", "--seeds=1,1",
        "--gradient_shrink=0.5",  # For none of these algorithms.
        "--balance=measured",
    ],
)
@pytest.mark.quick_cases(
    "--algorithms=magic", "--numbers_of_modules=2,2", "--seeds=-1",
    "--gradient_shrink",
)
def test_nonsense_is_refused(flag, tmp_path):
    done = command(
        "trainers.compare", f"--workdir={tmp_path / 'new'}",
        "--algorithms=backprop", flag,
    )
    assert flag.split("=")[0] in complaint(done)
    assert not (tmp_path / "new").exists()
