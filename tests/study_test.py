"""The study of delays: its data, tables, pictures and command."""

import json
import statistics

import keras
import numpy as np
import pytest
import tensorflow_datasets as tfds

import fr_keras
from tests.command_line import command, complaint
from trainers.studies import (
    close_up,
    close_up_tables,
    pictures,
    stability,
    tables,
)
from trainers.studies.methods import METHODS, is_exact
from trainers.studies.tasks import TASKS


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
        results("default", 4, [*LATE[:3], None]),
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


def test_clipped_ones_are_compared_with_each_other():
    text = tables.text([
        results("backprop", 1, EXACT), results("default_clipped", 4, LATE),
        results("backprop_clipped", 1, [x + 1 for x in EXACT]),
    ])
    *_, exact, late = filter(None, text.splitlines())
    deviation = statistics.stdev(EXACT)
    assert f"| {1 / deviation:+.1f} |" in exact
    assert "| +0.0 |" in late  # The mean of `LATE` is 4, and so is theirs.


def test_time_to_loss():
    """Losses of 10, 9, … 1, and of one that falls half as fast."""
    fast = np.arange(10.0, 0, -1)
    figure = pictures.time_to_loss([
        results("backprop", 1, EXACT, fast),
        results("paper", 4, LATE, fast / 2 + 5),
        results("paper", 2, LATE, fast),
        results("default", 4, LATE, fast),
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
    default = drawn[METHODS["default"].title]
    assert np.isnan(default[2]) and default[4] == reached


@pytest.mark.slow
def test_command(data_dir, tmp_path):
    run = [
        "trainers.study", f"--workdir={tmp_path / 'study'}",
        f"--data_dir={data_dir}", "--tasks=signals", "--optimizers=sgd",
        "--methods=backprop,default", "--numbers_of_modules=2",
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
    closer = command(*run, "--close_ups")
    assert closer.returncode == 0, closer.stderr
    for name in ("steps.md", "signals_sgd_modules.png"):
        assert (tmp_path / "study" / name).stat().st_size
    seen = json.loads(
        (tmp_path / "study/close_up_signals_sgd_default_k2.json").read_text()
    )
    assert len(seen["step"]) == len(seen["bound"]) == 2
    assert len(seen["sigma"]) == len(seen["downhill"]) == 1
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
    assert "must be new or that of a study" in said


def test_methods():
    """Those that are back-propagation have no delay to correct."""
    for name, method in METHODS.items():
        assert is_exact(method.exact)
        assert method.optimizer == METHODS[method.exact].optimizer or (
            is_exact(name)
        )
        if is_exact(name):
            assert method.policy is None and method.exact_share == 0
    assert type(METHODS["default"].policy).__name__ == "DelayPolicy"


@pytest.mark.parametrize("delay, momentum, ahead, expected", [
    # By hand: 2 without momentum, s = 0; 1 where w_{t+1} = w_t - a w_{t-1}.
    (0, 0.0, 0.0, 2.0), (1, 0.0, 0.0, 1.0),
    # 2 (1 + μ) / (1 - μ) with momentum.
    (0, 0.9, 0.0, 38.0), (0, 0.5, 0.0, 6.0),
    # μ / (1 - μ) ahead, w moves as without momentum.
    (0, 0.9, 9.0, 2.0), (0, 0.5, 1.0, 2.0),
])
def test_largest_step(delay, momentum, ahead, expected):
    found = stability.largest_step(delay, momentum, ahead)
    assert found == pytest.approx(expected, rel=1e-3)


def test_curvature_of_a_quadratic():
    """(1, 3) times w, squared: its Hessian has the eigenvalue 2 (1 + 9)."""
    network = keras.Sequential([
        keras.Input((2,)), keras.layers.Dense(1, use_bias=False),
    ])
    model = fr_keras.Backprop(network, 1)
    model.compile(keras.optimizers.SGD(0.5, momentum=0.75), "mse")
    looks = close_up.Steps(
        (np.array([[1.0, 3.0]], "float32"), np.zeros((1, 1), "float32")),
        loss=keras.losses.MeanSquaredError(),
    )
    x = np.zeros((4, 2), "float32")
    history = model.fit(
        x, x[:, :1], batch_size=4, verbose=0, callbacks=[looks]
    ).history
    # γλ / (1 - μ)
    assert history["step/module_1"] == pytest.approx([0.5 * 20 / 0.25])


def test_table_of_steps():
    text = close_up_tables.text([{
        "task": "signals", "optimizer": "sgd", "method": "paper",
        "num_modules": 2, "learning_rate": 0.25, "iterations": [1, 2],
        "sigma": [[1.0, 1.0]], "downhill": [[0.5, 0.5]],
        "step": [[0.5, 0.75], [None, -1.0]], "bound": [1.0, 38.0],
    }])
    assert text.splitlines()[-1].split("|")[3:-1] == [
        " the paper's Features Replay ", " 0.25 ", " 0.75 ", " 1 ", " 0.75 ",
        " 1 ", " -1 ", " 38 ",
    ]
