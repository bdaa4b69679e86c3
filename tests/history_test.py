"""The history of a run is whole in any file that is written."""

import math

from trainers.results.history import History


def test_writes_all_epochs(tmp_path):
    history = History(str(tmp_path / "history.csv"))
    history.on_epoch_end(0, {"loss": 2.0, "accuracy": 0.25})
    history.on_epoch_end(1, {"loss": 1.0, "accuracy": 0.5, "late": 3.0})
    assert (tmp_path / "history.csv").read_text().split() == [
        "epoch,accuracy,late,loss", "0,0.25,,2.0", "1,0.5,3.0,1.0",
    ]


def test_full_disk_costs_no_epoch(tmp_path, caplog):
    folder = tmp_path / "away"
    history = History(str(folder / "history.csv"))
    history.on_epoch_end(0, {"loss": 2.0})
    history.on_epoch_end(1, {"loss": 1.0})
    assert caplog.text.count("cannot be written") == 1
    folder.mkdir()
    history.on_epoch_end(2, {"loss": 0.5})
    assert (folder / "history.csv").read_text().split() == [
        "epoch,loss", "0,2.0", "1,1.0", "2,0.5",
    ]
    assert "can be written again" in caplog.text


def test_state(tmp_path):
    history = History(str(tmp_path / "history.csv"))
    history.on_epoch_end(0, {"loss": 2.0})
    state = {**history.get_state(), "seconds": 1000.0}
    other = History(str(tmp_path / "other.csv"))
    other.set_state(state)
    other.on_train_begin()
    other.on_epoch_end(1, {"loss": 1.0})
    assert [row["loss"] for row in other.rows] == [2.0, 1.0]
    assert 1000 < other.seconds < 1100


def test_failure(tmp_path):
    history = History(str(tmp_path / "history.csv"))
    history.add_failure(["loss"])
    assert history.rows[0]["epoch"] == 0
    assert math.isnan(history.rows[0]["loss"])
