"""What callbacks logged after the checkpoint is removed on resume."""

import keras
import pytest
import tensorflow as tf

import fr_keras
from tests.killed_trainings import (
    DATA,
    Kill,
    Killed,
    build,
    killed_and_continued,
    shuffled,
)


def test_logs_are_cut_back(tmp_path):
    logs = tmp_path / "logs"

    def callbacks():
        return [
            keras.callbacks.TensorBoard(logs),
            keras.callbacks.CSVLogger(tmp_path / "log.csv", append=True),
        ]

    class KillAtEnd(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 2:
                raise Killed

    # The third epoch is logged, but there is no checkpoint of it.
    model = build()
    with pytest.raises(Killed):
        model.fit(shuffled(), epochs=4, verbose=0, callbacks=[
            *callbacks(), fr_keras.Checkpoints(tmp_path / "kept"), KillAtEnd(),
        ])
    killed_and_continued(
        tmp_path / "kept", build, DATA["dataset"], [], callbacks
    )
    lines = (tmp_path / "log.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in lines] == ["epoch", *"0123"]
    steps = [
        event.step
        for file in sorted((logs / "train").iterdir())
        for event in tf.compat.v1.train.summary_iterator(str(file))
        for value in event.summary.value if value.tag == "epoch_loss"
    ]
    assert steps == [0, 1, 2, 3]


def test_logs_of_other_callbacks_are_left_alone(tmp_path):
    """Callbacks that were not there at the checkpoint keep what they have."""
    def logger():
        return keras.callbacks.CSVLogger(tmp_path / "log.csv", append=True)

    model = build()
    with pytest.raises(Killed):
        model.fit(shuffled(), epochs=4, verbose=0, callbacks=[
            keras.callbacks.TensorBoard(tmp_path / "logs"),
            fr_keras.Checkpoints(tmp_path / "kept"), Kill(6),
        ])
    (tmp_path / "log.csv").write_text("epoch,loss\n7,8\n")
    before = {p: p.read_bytes() for p in (tmp_path / "logs/train").iterdir()}
    build().fit(shuffled(), epochs=4, verbose=0, callbacks=[
        logger(), keras.callbacks.TensorBoard(tmp_path / "logs"),
        fr_keras.Checkpoints(tmp_path / "kept"),
    ])
    assert (tmp_path / "log.csv").read_text().startswith("epoch,loss\n7,8\n")
    for path, data in before.items():
        assert data.startswith(path.read_bytes()) and path.stat().st_size
