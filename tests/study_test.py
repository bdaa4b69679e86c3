"""The study of delays: its data, tables, pictures and command."""

import json
import statistics

import numpy as np
import pytest
import tensorflow_datasets as tfds

from tests.command_line import command, complaint
from trainers.studies import pictures, tables
from trainers.studies.methods import METHODS, is_exact
from trainers.studies.tasks import TASKS


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


@pytest.mark.parametrize("name", TASKS)
def test_data(name, data_dir):
    """Inputs that the network takes, and classes that it has."""
    task = TASKS[name]
    data, again = (task.data(data_dir) for _ in range(2))
    network = task.make()
    for split in ("train", "validation", "test"):
        x, y = getattr(data, split)
        assert len(x) == len(y) >= 1000
        outputs = network(x[:2])
        assert outputs.shape[:-1] == y[:2].shape
        assert 0 <= y.min() and y.max() < outputs.shape[-1]
        assert np.array_equal(x, getattr(again, split)[0])
    # Nothing is learned from what is tested.
    seen = {example.tobytes() for example in data.train[0]}
    share = np.mean([x.tobytes() in seen for x in data.test[0]])
    assert share == 0 or name == "text" and share < 0.5
    drawn = data.draw(np.random.default_rng(0), 5)
    assert len(drawn[0]) == len(drawn[1]) == 5


def test_topics_are_in_one_part(data_dir):
    builder = tfds.builder("python_manual", data_dir=data_dir)
    builder.download_and_prepare()
    topics = [
        {example["topic"] for example in tfds.as_numpy(
            builder.as_dataset(split=split)
        )}
        for split in builder.info.splits
    ]
    assert sum(map(len, topics)) == len(set().union(*topics))


def results(method, num_modules, test_loss, losses=()):
    return {
        "task": "signals", "optimizer": "adam", "method": method,
        "num_modules": num_modules, "learning_rate": 0.25,
        "test_loss": test_loss, "test_accuracy": [0.5] * len(test_loss),
        "losses": [list(losses)] * len(test_loss),
    }


EXACT = [1.0, 2.0, 3.0, 6.0]
LATE = [2.0, 2.5, 4.5, 7.0]


def test_table():
    text = tables.text([
        results("paper", 4, LATE), results("backprop", 1, EXACT),
        results("look_ahead_full", 4, [*LATE[:3], None]),
    ])
    title, _, header, _, *rows = text.splitlines()
    assert title == "**residual MLP on signals, adam**"
    cells = [[c.strip() for c in row.split("|")[1:-1]] for row in rows if row]
    deviation = statistics.stdev(EXACT)
    assert cells[0][:4] == [
        "–", "back-propagation", "0.25", f"3.000 ± {deviation:.3f}"
    ]
    # Student's t of the differences 1, 0.5, 1.5, 1 is 4.9, with three degrees
    # of freedom; 1 is their mean.
    assert cells[1][5:] == [f"{1 / deviation:+.1f}", "0.016"]
    assert "(1 diverged)" in cells[2][3] and cells[2][5:] == ["", ""]


def test_time_to_loss():
    """Losses of 10, 9, … 1, and of one that falls half as fast."""
    fast = np.arange(10.0, 0, -1)
    figure = pictures.time_to_loss([
        results("backprop", 1, EXACT, fast),
        results("paper", 4, LATE, fast / 2 + 5),
        results("paper", 2, LATE, fast),
        results("look_ahead_full", 4, LATE, fast),
    ])
    (ax,) = figure.axes
    drawn = {
        line.get_label(): dict(zip(*line.get_data())) for line in ax.lines
    }
    # A mean of three windows is 9, 8, … 2; that after 0.6 of them is 5, with
    # the sixth window its last.
    reached = 60
    assert drawn["back-propagation"] == {2: 3 * reached, 4: 3 * reached}
    pipeline = drawn["ideal exact pipeline, M = 8"]
    assert pipeline[2] == pytest.approx((3 + 1 / 8) / 2 * reached)
    assert pipeline[4] == pytest.approx((3 + 3 / 8) / 4 * reached)
    paper = drawn[METHODS["paper"].title]
    assert paper[2] == 4 / 2 * reached and np.isnan(paper[4])
    default = drawn[METHODS["look_ahead_full"].title]
    assert np.isnan(default[2]) and default[4] == reached


@pytest.mark.slow
def test_command(data_dir, tmp_path):
    run = [
        "trainers.study", f"--workdir={tmp_path / 'study'}",
        f"--data_dir={data_dir}", "--tasks=signals", "--optimizers=sgd",
        "--methods=backprop,look_ahead_full", "--numbers_of_modules=2",
        "--num_steps=20",
    ]
    done = command(*run)
    assert done.returncode == 0, done.stderr
    for name in (
        "study.cfg", "tables.md", "signals.png", "time_to_loss.png",
    ):
        assert (tmp_path / "study" / name).stat().st_size
    found = sorted((tmp_path / "study").glob("*.json"))
    assert len(found) == 2
    for path in found:
        case = json.loads(path.read_text())
        assert len(case["tuning"]) == 9 and len(case["test_loss"]) == 6
        # The best of the last three, on the validation set.
        fine = dict(map(tuple, case["tuning"][6:]))
        assert case["learning_rate"] == min(fine, key=fine.get)
        before = path.stat().st_mtime_ns
    again = command(*run)
    assert again.returncode == 0 and "[1/2]" not in again.stdout
    assert path.stat().st_mtime_ns == before
    said = complaint(command(*run, "--num_steps=30"))
    assert "other flags" in said and "--num_steps=30" in said


@pytest.mark.parametrize("flag", [
    "--tasks=chess", "--methods=", "--optimizers=adam,adam", "--num_steps=5",
    "--num_steps=15", "--warmup_share=1", "--warmup_share=0",
])
def test_nonsense_is_refused(flag, tmp_path):
    said = complaint(command(
        "trainers.study", f"--workdir={tmp_path / 'study'}", flag
    ))
    assert flag.split("=")[0][2:] in said
    assert not (tmp_path / "study").exists()


def test_a_directory_of_something_else(tmp_path):
    (tmp_path / "thesis.txt").write_text("precious")
    said = complaint(command("trainers.study", f"--workdir={tmp_path}"))
    assert "must be new, or that of a study" in said


def test_methods():
    """Those that are back-propagation have no delay to correct."""
    for name, method in METHODS.items():
        if is_exact(name):
            assert method.policy is None and method.exact_share == 0
    assert type(METHODS["look_ahead_full"].policy).__name__ == "DelayPolicy"
